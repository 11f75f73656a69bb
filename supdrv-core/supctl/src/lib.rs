//! Ring-3 client of the support driver.
