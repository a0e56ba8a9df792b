"""What is in some data, and whether all of it is whole: behind `ernie5 data verify` and `ernie5 data inspect`."""
