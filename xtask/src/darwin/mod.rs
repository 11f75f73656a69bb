//! The Darwin driver: the Rust half and the C++ half, linked into a kernel extension.

#[cfg(test)]
mod link;
#[cfg(test)]
mod load;
