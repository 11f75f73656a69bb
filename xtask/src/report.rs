//! Errors, and the count of what passed.

/// An error is a message for a person.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How a step, or everything so far, ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl Tally {
    /// One check.
    pub fn one(passed: bool) -> Self {
        Self { passed: u32::from(passed), failed: u32::from(!passed), skipped: 0 }
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The last `N passed, N failed[, N skipped]` line of a program's output.
    pub fn last_in(output: &str) -> Option<Self> {
        output.lines().rev().find_map(Self::parse)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut tally = Self::default();
        let mut seen = 0;
        for part in line.trim().split(", ") {
            let (number, what) = part.split_once(' ')?;
            let number = number.parse().ok()?;
            match what {
                "passed" => tally.passed = number,
                "failed" => tally.failed = number,
                "skipped" => tally.skipped = number,
                _ => return None,
            }
            seen += 1;
        }
        (seen >= 2).then_some(tally)
    }

    /// The sum of the result lines that `cargo test` prints.
    pub fn of_cargo_test(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
            let number = |what: &str| {
                let part = line.split([';', '.']).map(str::trim).find(|part| part.ends_with(what));
                part.and_then(|part| part.strip_suffix(what)?.trim().rsplit(' ').next()?.parse().ok())
                    .unwrap_or(0)
            };
            sum.add(Self { passed: number("passed"), failed: number("failed"), skipped: number("ignored") });
        }
        sum
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped != 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_plain_line_counts() {
        let output = "3 passed, 1 failed\nnoise\n 12 passed, 0 failed, 2 skipped\r\nbye\n";
        assert_eq!(Tally::last_in(output), Some(Tally { passed: 12, failed: 0, skipped: 2 }));
        assert_eq!(Tally::last_in("12 passed"), None);
    }

    #[test]
    fn results_of_several_test_binaries_add_up() {
        let output = "test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(Tally::of_cargo_test(output), Tally { passed: 9, failed: 3, skipped: 1 });
    }
}
