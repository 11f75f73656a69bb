//! Property lists in XML: as much of them as kernel extensions use.

use std::collections::BTreeMap;

use crate::report::Result;

/// A property list, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    String(String),
    Bool(bool),
    Array(Vec<Value>),
    Dict(BTreeMap<String, Value>),
}

/// One piece of XML.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Open(&'a str),
    Close(&'a str),
    Empty(&'a str),
    Text(&'a str),
}

struct Parser<'a> {
    rest: &'a str,
}

/// Lists aren't nested deeper than this.
const DEPTH: usize = 32;

fn unescape(text: &str) -> Result<String> {
    let mut plain = String::new();
    let mut parts = text.split('&');
    plain.push_str(parts.next().unwrap_or(""));
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or("an ampersand by itself")?;
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            other => return Err(format!("&{other}; is unknown").into()),
        });
        plain.push_str(rest);
    }
    Ok(plain)
}

impl<'a> Parser<'a> {
    /// The next piece; declarations, comments, and white space between tags are skipped.
    fn next(&mut self) -> Result<Option<Token<'a>>> {
        loop {
            let Some(start) = self.rest.find('<') else {
                return match self.rest.trim() {
                    "" => Ok(None),
                    text => Err(format!("text at the end: {text:?}").into()),
                };
            };
            let (text, tag) = self.rest.split_at(start);
            if !text.trim().is_empty() {
                self.rest = tag;
                return Ok(Some(Token::Text(text)));
            }
            let end = if tag.starts_with("<!--") { "-->" } else { ">" };
            let (inner, rest) = tag.split_once(end).ok_or("a tag doesn't end")?;
            self.rest = rest;
            let inner = inner.trim_start_matches('<');
            if inner.starts_with('?') || inner.starts_with('!') {
                continue;
            }
            return Ok(Some(match (inner.strip_prefix('/'), inner.strip_suffix('/')) {
                (Some(name), _) => Token::Close(name.trim()),
                (None, Some(name)) => Token::Empty(name.trim()),
                (None, None) => Token::Open(inner.split_whitespace().next().unwrap_or("")),
            }));
        }
    }

    fn expect(&mut self) -> Result<Token<'a>> {
        self.next()?.ok_or_else(|| "the list ends too early".into())
    }

    fn close(&mut self, name: &str) -> Result<()> {
        match self.expect()? {
            Token::Close(found) if found == name => Ok(()),
            other => Err(format!("{other:?} where </{name}> should be").into()),
        }
    }

    /// The text of an element that has been opened.
    fn text(&mut self, name: &str) -> Result<String> {
        match self.expect()? {
            Token::Text(text) => {
                self.close(name)?;
                unescape(text)
            }
            Token::Close(found) if found == name => Ok(String::new()),
            other => Err(format!("{other:?} in <{name}>").into()),
        }
    }

    fn value(&mut self, token: Token<'a>, depth: usize) -> Result<Value> {
        if depth > DEPTH {
            return Err("nested too deeply".into());
        }
        match token {
            Token::Open("string") => Ok(Value::String(self.text("string")?)),
            Token::Empty("string") => Ok(Value::String(String::new())),
            Token::Empty("true") => Ok(Value::Bool(true)),
            Token::Empty("false") => Ok(Value::Bool(false)),
            Token::Empty("dict") => Ok(Value::Dict(BTreeMap::new())),
            Token::Empty("array") => Ok(Value::Array(Vec::new())),
            Token::Open("array") => {
                let mut values = Vec::new();
                loop {
                    match self.expect()? {
                        Token::Close("array") => return Ok(Value::Array(values)),
                        token => values.push(self.value(token, depth + 1)?),
                    }
                }
            }
            Token::Open("dict") => self.dict(depth),
            other => Err(format!("{other:?} isn't known").into()),
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Value> {
        let mut entries = BTreeMap::new();
        loop {
            match self.expect()? {
                Token::Close("dict") => return Ok(Value::Dict(entries)),
                Token::Open("key") => {
                    let key = self.text("key")?;
                    let token = self.expect()?;
                    let value = self.value(token, depth + 1)?;
                    if entries.insert(key.clone(), value).is_some() {
                        return Err(format!("{key} is there twice").into());
                    }
                }
                other => return Err(format!("{other:?} where a key should be").into()),
            }
        }
    }
}

impl Value {
    /// Reads a whole property list.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { rest: text };
        if parser.expect()? != Token::Open("plist") {
            return Err("is no property list".into());
        }
        let token = parser.expect()?;
        let value = parser.value(token, 0)?;
        parser.close("plist")?;
        match parser.next()? {
            None => Ok(value),
            Some(other) => Err(format!("{other:?} after the list").into()),
        }
    }

    /// An entry of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dict(entries) => entries.get(key),
            _ => None,
        }
    }

    /// The entries of a dictionary; none if it is something else.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let entries = match self {
            Self::Dict(entries) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Value;

    #[test]
    fn a_list_is_read() {
        let list = Value::parse(
            "<?xml version=\"1.0\"?><!DOCTYPE plist><!-- <dict> --><plist version=\"1.0\"> <dict>\n\
             <key>a &amp; b</key> <string>1 &lt; 2</string> <key>c</key><array><true/><string/><dict/></array>\n\
             </dict></plist>\n",
        )
        .unwrap();
        assert_eq!(list.get("a & b").and_then(Value::text), Some("1 < 2"));
        assert_eq!(list.entries().count(), 2);
        let Some(Value::Array(values)) = list.get("c") else { panic!("no array") };
        assert_eq!(values[0], Value::Bool(true));
        assert_eq!(values[1].text(), Some(""));
        assert_eq!(values[2].entries().count(), 0);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in [
            "",
            "<dict></dict>",
            "<plist><dict></plist>",
            "<plist><dict><string>x</string></dict></plist>",
            "<plist><dict><key>a</key></dict></plist>",
            "<plist><dict><key>a</key><true/><key>a</key><true/></dict></plist>",
            "<plist><string>a & b</string></plist>",
            "<plist><string>&nbsp;</string></plist>",
            "<plist><true/></plist><plist><true/></plist>",
            "<plist><true/></plist> text",
            "<plist><data>AA==</data></plist>",
            "<plist><!-- </plist>",
        ] {
            assert!(Value::parse(text).is_err(), "{text}");
        }
        let deep = format!("<plist>{}</plist>", "<array>".repeat(10_000));
        assert!(Value::parse(&deep).is_err());
    }
}
