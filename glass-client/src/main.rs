//! `lotse-glass`: the program on the glasses.
fn main() {}
