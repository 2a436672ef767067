//! The `precis` command.
fn main() {}
