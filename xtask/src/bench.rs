//! What requests and services cost on the host, in instructions, and whether that grows with what is open.
//!
//! `supdrv-core/benches/cost/` has the cases. Each runs in a process of its own under callgrind, which counts only the operations, not
//! their preparation. Counts depend on the compiler, not on the machine's speed or load.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Result;
use crate::tools::{command, executable, long_step, need, run, say, target};

/// How much more an operation may cost with everything open than with the least: searching in depth, but no walking through.
const MOST_GROWTH: f64 = 2.5;

struct Row {
    case: String,
    /// What was open, and instructions per operation.
    costs: Vec<(usize, f64)>,
}

/// Builds the program; it is where cargo says.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["bench", "--no-run", "-p", "supdrv-core", "--bench", "cost", "--message-format", "json"];
    let messages = long_step("building the cases", &mut command(cargo, &arguments))?;
    executable(&messages)
}

/// Instructions of all counted operations of a case.
fn count(program: &Path, case: &str, size: usize) -> Result<u64> {
    let out = target("bench")?.join("callgrind.out");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--instr-atstart=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["run", case, &size.to_string()]);
    run(&mut valgrind)?;
    let profile = std::fs::read_to_string(&out)?;
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| format!("callgrind counted nothing for {case:?}").into())
}

fn table(rows: &[Row]) {
    println!("{:<34} {:>10} {:>14} {:>8}", "instructions per operation", "n", "instructions", "growth");
    for row in rows {
        let least = row.costs.first().map_or(1.0, |(_, cost)| *cost);
        for (index, (size, cost)) in row.costs.iter().enumerate() {
            let name = if index == 0 { row.case.as_str() } else { "" };
            let growth = if index == 0 { String::new() } else { format!("{:.2}", cost / least) };
            println!("{name:<34} {size:>10} {cost:>14.0} {growth:>8}");
        }
    }
}

/// `cargo xtask bench`: prints the table; fails if a cost grows with what is open.
pub fn run_all() -> Result<()> {
    need(&["valgrind"])?;
    let program = build()?;
    let list = run(&mut command(&program, &["list"]))?;
    let mut lines = list.lines().filter_map(|line| line.split_once('\t'));
    let operations: f64 = match lines.next() {
        Some(("operations", number)) => number.parse()?,
        _ => return Err("the program doesn't say how many operations it counts".into()),
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut overhead = 0.0;
    say("counting; a minute or two on an idle machine …");
    for (case, size) in lines {
        let size: usize = size.parse()?;
        let cost = count(&program, case, size)? as f64 / operations;
        if case == "nothing" {
            overhead = cost;
            continue;
        }
        let cost = cost - overhead;
        match rows.last_mut().filter(|row| row.case == case) {
            Some(row) => row.costs.push((size, cost)),
            None => rows.push(Row { case: case.into(), costs: vec![(size, cost)] }),
        }
    }
    table(&rows);
    let grows = |row: &&Row| {
        let (first, last) = (row.costs.first(), row.costs.last());
        first.zip(last).is_some_and(|(first, last)| last.1 > first.1 * MOST_GROWTH)
    };
    let growing: Vec<&str> = rows.iter().filter(grows).map(|row| row.case.as_str()).collect();
    if growing.is_empty() { Ok(()) } else { Err(format!("cost grows with what is open: {growing:?}").into()) }
}
