"""Find the passages that answer a question: cut, embed, index, search, and quote without a model that writes."""
