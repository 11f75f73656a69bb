//! Build, demo and test automation: `cargo xtask help`.

fn main() {}
