/** Licence text. */
package x;

/**
 * A bank account.
 * @author me
 */
public class Account extends Base {
    private int balance = 0; // cents

    /** Puts money in. */
    public void deposit(int amount) {
        // check first
        if (amount < 0) { throw new IllegalArgumentException("no // comment"); }
        balance += amount;
    }
}
