//! The members of a C structure as a tree: paths like `u.In.EP.VMMR0.pvVMMR0` become nested structures and unions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;

use super::types;
use crate::abi::layout::{ABSENT, Field};

/// A member, with those inside it.
pub struct Node {
    name: String,
    path: String,
    leaf: Option<Field>,
    children: Vec<Node>,
}

impl Node {
    fn new(name: &str, path: &str) -> Self {
        Self { name: name.into(), path: path.into(), leaf: None, children: Vec::new() }
    }

    /// The tree of a structure.
    pub fn of(c_struct: &str, members: &BTreeMap<String, Field>) -> Self {
        let mut root = Self::new("", "");
        for (path, field) in members {
            root.insert(path, path, *field);
        }
        root.settle(c_struct);
        root
    }

    fn insert(&mut self, rest: &str, path: &str, field: Field) {
        let (name, below) = match rest.split_once('.') {
            Some((name, below)) => (name, Some(below)),
            None => (rest, None),
        };
        let at = match self.children.iter().position(|child| child.name == name) {
            Some(at) => at,
            None => {
                let upto = path.len() - below.map_or(0, |below| below.len() + 1);
                self.children.push(Self::new(name, &path[..upto]));
                self.children.len() - 1
            }
        };
        match below {
            Some(below) => self.children[at].insert(below, path, field),
            None => self.children[at].leaf = Some(field),
        }
    }

    /// Decides between a member and what is in it, and sorts.
    fn settle(&mut self, c_struct: &str) {
        let has_type = self.leaf.as_ref().is_some_and(|field| types::is_typed(c_struct, &self.path, field));
        if has_type {
            self.children.clear();
        } else if !self.children.is_empty() {
            self.leaf = None;
        }
        for child in &mut self.children {
            child.settle(c_struct);
        }
        // The line number has the low bits of the word that it shares.
        self.children.sort_by_key(|child| (child.start(), child.name == "fEnabled"));
    }

    /// Where it begins and ends on hosts of a width; `None` if it isn't there.
    fn range(&self, width: usize) -> Option<(usize, usize)> {
        match &self.leaf {
            Some(field) if field.offset[width] == ABSENT || field.size[width] == 0 => None,
            Some(field) => Some((field.offset[width], field.offset[width] + field.size[width])),
            None => {
                let ranges = self.children.iter().filter_map(|child| child.range(width));
                ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            }
        }
    }

    /// Its place among its siblings.
    fn start(&self) -> usize {
        self.range(0).or_else(|| self.range(1)).map_or(0, |range| range.0)
    }

    /// Whether members share bytes, or may on another day: the names of unions are a convention.
    pub fn is_union(&self) -> bool {
        let overlapping = |width| {
            let whole_words = self.children.iter().filter(|child| !types::is_bit_field(&child.name));
            let ranges: Vec<_> = whole_words.filter_map(|child| child.range(width)).collect();
            ranges.windows(2).any(|pair| pair[1].0 < pair[0].1)
        };
        overlapping(0) || overlapping(1) || types::UNIONS.contains(&self.name.as_str())
    }

    /// Prints the members, indented by `depth` levels.
    pub fn print_members(&self, c_struct: &str, depth: usize, text: &mut String) {
        let indent = "    ".repeat(depth);
        for child in &self.children {
            text.push_str(super::text::before(c_struct, &child.name));
            let _infallible = match &child.leaf {
                Some(field) => {
                    let line = std::format!(
                        "{indent}{};\n",
                        types::declaration(c_struct, &child.path, &child.name, field)
                    );
                    match [0, 1].map(|width| child.range(width).is_some()) {
                        [false, _] => write!(text, "#if SUPDRV_HOST_BITS == 32\n{line}#endif\n"),
                        [_, false] => write!(text, "#if SUPDRV_HOST_BITS == 64\n{line}#endif\n"),
                        _ => write!(text, "{line}"),
                    }
                }
                None => {
                    let kind = if child.is_union() { "union" } else { "struct" };
                    let mut body = String::new();
                    child.print_members(c_struct, depth + 1, &mut body);
                    write!(text, "{indent}{kind}\n{indent}{{\n{body}{indent}}} {};\n", child.name)
                }
            };
        }
    }
}
