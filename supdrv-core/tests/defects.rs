//! The book's table of the original's defects names tests; they must be there.

use std::collections::BTreeSet;
use std::path::Path;

/// Tests of a folder and of the folders in it, as `file::test`.
fn tests_in(folder: &Path, crate_name: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_in(&path, crate_name, found);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let file = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let text = std::fs::read_to_string(&path).expect("a source");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                is_test = true;
            } else if let (true, Some(rest)) = (is_test, line.strip_prefix("fn ")) {
                found.insert(format!("{crate_name}{file}::{}", rest.split('(').next().unwrap_or("")));
                is_test = false;
            }
        }
    }
}

/// The tests that shims share: functions that their macro makes tests of.
fn suite_of_shims(folder: &Path, found: &mut BTreeSet<String>) {
    let list = std::fs::read_to_string(folder.join("mod.rs")).expect("the suite's list");
    for module in ["life", "requests", "processes", "failures"] {
        let text =
            std::fs::read_to_string(folder.join(module).with_extension("rs")).expect("a part of the suite");
        let names =
            text.lines().filter_map(|line| line.strip_prefix("pub fn ")?.split_once("<S: ShimUnderTest>("));
        for (name, _) in names.filter(|(name, _)| list.contains(&format!("            {name},\n"))) {
            found.insert(format!("suite/{module}::{name}"));
        }
    }
}

#[test]
fn every_test_in_the_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("../docs/src/defects.md")).expect("the table");
    let mut tests = BTreeSet::new();
    tests_in(&root.join("tests"), "", &mut tests);
    tests_in(&root.join("src"), "src/", &mut tests);
    for shim in std::fs::read_dir(root.join("..")).expect("the workspace") {
        let shim = shim.expect("an entry").path();
        let name = shim.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if name.starts_with("supdrv-") && name != "supdrv-core" && shim.join("tests").is_dir() {
            tests_in(&shim.join("tests"), &format!("{name}/"), &mut tests);
        }
    }
    suite_of_shims(&root.join("fakekernel/src/suite"), &mut tests);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| ---") && !line.starts_with("| what"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in &rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let name = row[3].trim_matches('`');
        assert!(tests.contains(name), "no test is called {name}: {row:?}");
    }
}
