"""One file per kind of rule; each has ``find(place, limit) -> Iterator[Fact]``, ``limit`` in characters of answer."""
