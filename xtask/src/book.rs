//! The book: built by mdBook, and whether its pages and links hold together.

use std::path::{Path, PathBuf};

use crate::report::{Result, Tally};
use crate::tools::{command, long_step, root, run, target};

const MDBOOK_VERSION: &str = "0.4.52";

/// mdBook, built once into `target/tools`: Debian 12 has no package of it.
fn mdbook() -> Result<PathBuf> {
    let tools = target("tools")?;
    let program = tools.join("bin/mdbook");
    let found = run(&mut command(&program, &["--version"])).unwrap_or_default();
    if !found.trim().ends_with(MDBOOK_VERSION) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut install =
            command(cargo, &["install", "mdbook", "--locked", "--no-default-features", "--force"]);
        install.args(["--version", MDBOOK_VERSION, "--root"]).arg(&tools);
        long_step("installing mdBook", &mut install)?;
    }
    Ok(program)
}

/// Builds the book and returns its first page.
pub fn build() -> Result<PathBuf> {
    let book = target("book")?;
    run(command(mdbook()?, &["build", "docs", "--dest-dir"]).arg(&book))?;
    Ok(book.join("index.html"))
}

/// The book can be built, its table of contents has all pages, and no link in a page or a README leads nowhere.
pub fn check() -> Result<Tally> {
    build()?;
    let source = root().join("docs/src");
    let contents = std::fs::read_to_string(source.join("SUMMARY.md"))?;
    let named: Vec<&str> = links(&contents).collect();
    let mut pages = Vec::new();
    markdown(&source, &mut pages)?;
    let mut tally = Tally::default();
    for page in &pages {
        let name = page.strip_prefix(&source)?.to_string_lossy();
        let is_named = name == "SUMMARY.md" || named.contains(&&*name);
        if !is_named {
            println!("docs/src/{name} is not in SUMMARY.md");
        }
        tally.add(Tally::one(is_named));
    }
    for folder in std::fs::read_dir(root())? {
        pages.extend(Some(folder?.path().join("README.md")).filter(|readme| readme.is_file()));
    }
    pages.push(root().join("README.md"));
    for page in &pages {
        tally.add(Tally::one(links_hold(page)?));
    }
    Ok(tally)
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            markdown(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

/// The targets of a page's links that are files of the project, without anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        let is_file = !target.is_empty() && !target.contains("://") && !target.contains(char::is_whitespace);
        is_file.then_some(target)
    })
}

fn links_hold(page: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(page)?;
    let folder = page.parent().ok_or("a page is in a folder")?;
    let mut hold = true;
    for target in links(&text).filter(|target| !folder.join(target).exists()) {
        println!("{}: {target} doesn't exist", page.display());
        hold = false;
    }
    Ok(hold)
}
