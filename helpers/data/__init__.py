"""Data sets of the book, one loader each."""
