/* Sums. */
#include <stdio.h>
/* Adds a and b. */
static int add(int a, int b)
{
    return a + b; /* sum */
}
