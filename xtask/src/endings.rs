//! Whether the tests have seen every ending that the interface lists for its requests, and no other refusal.
//!
//! The mock system leaves a file for each ending it sees (`supdrv_core::mock::seen`); the list is `supdrv-core/tests/data/endings.txt`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::report::{Result, Tally};
use crate::tools::{root, target};

/// The mock's variable with the folder's name.
pub const VARIABLE: &str = "SUPDRV_SEEN";

/// An empty folder for the endings of a run.
pub fn folder() -> Result<PathBuf> {
    let folder = target("endings")?;
    std::fs::remove_dir_all(&folder)?;
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// `REQUEST.END.STATUS` of each line of the list, with wildcards resolved.
fn listed(list: &str) -> BTreeSet<String> {
    let lines = || list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let is_fast_or_idc = |name: &str| name.starts_with("Fast") || name.starts_with("Idc");
    let requests: BTreeSet<&str> = lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "*" && !is_fast_or_idc(name))
        .collect();
    let mut endings = BTreeSet::new();
    for line in lines() {
        let mut words = line.split_whitespace().peekable();
        let name = words.next().unwrap_or_default();
        let mut left_out = BTreeSet::new();
        while let Some(request) = words.peek().and_then(|word| word.strip_prefix('-')) {
            left_out.insert(request);
            words.next();
        }
        let (end, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let names = if name == "*" { requests.difference(&left_out).copied().collect() } else { vec![name] };
        endings.extend(names.iter().map(|name| format!("{name}.{end}.{status}")));
    }
    endings
}

/// Refusals before a handler had its say: only the driver itself decides about these.
fn is_refusal(ending: &str) -> bool {
    ending.split('.').nth(1).is_some_and(|end| end != "H")
}

/// Compares what a run has left in `folder` with the list.
pub fn check(folder: &Path) -> Result<Tally> {
    let list = std::fs::read_to_string(root().join("supdrv-core/tests/data/endings.txt"))?;
    let listed = listed(&list);
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        seen.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    let missing: Vec<&String> = listed.difference(&seen).collect();
    let strange: Vec<&String> = seen.difference(&listed).filter(|ending| is_refusal(ending)).collect();
    let mut tally = Tally::default();
    let mut check = |what: String, passed: bool| {
        println!("{} {what}", if passed { "ok    " } else { "FAILED" });
        tally.add(Tally::one(passed));
    };
    check(
        format!(
            "{} of {} endings of requests were produced {missing:?}",
            listed.len() - missing.len(),
            listed.len()
        ),
        missing.is_empty(),
    );
    check(format!("no request was refused in a way that isn't listed {strange:?}"), strange.is_empty());
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::{is_refusal, listed};

    #[test]
    fn wildcards_stand_for_requests_with_packets_but_those_that_are_left_out() {
        let list = "# text\n* R NO cookies\n* -B R WHO restricted\n\nA H OK\nB H OK\nFastC H OK\nIdcD B NO\n";
        let expected = ["A.H.OK", "A.R.NO", "A.R.WHO", "B.H.OK", "B.R.NO", "FastC.H.OK", "IdcD.B.NO"];
        assert!(listed(list).iter().eq(expected), "{:?}", listed(list));
    }

    #[test]
    fn the_driver_refuses_before_a_handler_answers() {
        assert!(is_refusal("A.B.NO") && is_refusal("A.R.NO") && !is_refusal("A.H.NO"));
    }
}
