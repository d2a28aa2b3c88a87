"""Answer questions from a run: one reply with its citations, and the chat in the terminal."""
