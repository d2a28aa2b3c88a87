"""The stages joined into jobs: a person's documents into a tuned model, a corpus into a base model."""
