//! Owns the proofs that the checks find what is broken and nothing else: histories made by hand, runs of a reference system
//! that must pass, and mutants of them that must not.

mod book;

mod stored;

mod seen;

mod held;

mod second_opinion;

mod desk;

mod deeds;

mod dice;

mod world;

mod valid;

mod mutants;

mod mutants_of_deeds;

mod erased;
