//! Owns what a node says to input that is not right. Does not load it.
