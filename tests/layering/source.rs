//! What a Rust file uses: its words, without what is compiled for tests alone, and the paths among them.

use std::collections::BTreeMap;

/// A path from the crate's root: `crate::a::b` is `["a", "b"]`.
pub type Path = Vec<String>;

/// What counts of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Source {
    /// Paths into this crate, in order.
    pub uses: Vec<Path>,
    /// Names that the file's module re-exports, and where they come from.
    pub exports: BTreeMap<String, Path>,
    /// Modules in files of their own that are compiled for tests alone.
    pub test_modules: Vec<Path>,
}

impl Source {
    /// Parses the file of the module `module`.
    pub fn parse(module: &[String], text: &str) -> Source {
        let mut source = Source::default();
        let words = without_tests(&words(text), module, &mut source.test_modules);
        let children: Vec<&str> =
            words.windows(2).filter(|w| w[0] == "mod" && is_name(&w[1])).map(|w| &w[1][..]).collect();
        let mut module = module.to_vec();
        // Depth of braces, and the depths at which modules inside the file began.
        let (mut depth, mut inner) = (0, Vec::new());
        let mut at = 0;
        while at < words.len() {
            match &words[at][..] {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inner.last() == Some(&depth) {
                        inner.pop();
                        module.pop();
                    }
                }
                "mod" if words.get(at + 2).is_some_and(|w| w == "{") => {
                    inner.push(depth);
                    module.push(words[at + 1].clone());
                }
                "use" => {
                    let public = at > 0 && (words[at - 1] == "pub" || words[at - 1] == ")");
                    let mut found = Vec::new();
                    at = use_tree(&words, at + 1, &mut Vec::new(), &mut found);
                    for (path, name) in found {
                        let Some(path) = resolve(&module, &children, &path) else { continue };
                        if public {
                            source.exports.insert(name, path.clone());
                        }
                        source.uses.push(path);
                    }
                    continue;
                }
                word if is_name(word)
                    && words.get(at + 1).is_some_and(|w| w == "::")
                    && (at == 0 || words[at - 1] != ".") =>
                {
                    let mut path = vec![words[at].clone()];
                    while words.get(at + 1).is_some_and(|w| w == "::") && words.get(at + 2).is_some_and(|w| is_name(w))
                    {
                        path.push(words[at + 2].clone());
                        at += 2;
                    }
                    source.uses.extend(resolve(&module, &children, &path));
                }
                _ => {}
            }
            at += 1;
        }
        source
    }
}

/// `path` from the root, if it leads into this crate.
fn resolve(module: &[String], children: &[&str], path: &[String]) -> Option<Path> {
    let (mut base, mut rest) = match &path[0][..] {
        "crate" | "$crate" => (Vec::new(), &path[1..]),
        "self" => (module.to_vec(), &path[1..]),
        "super" => (module.to_vec(), path),
        child if children.contains(&child) => (module.to_vec(), path),
        _ => return None,
    };
    while rest.first().is_some_and(|w| w == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend(rest.iter().filter(|w| *w != "self").cloned());
    Some(base)
}

/// Reads the tree behind `use` from `at` on: pairs of path and the name that it gets. Returns where the tree ends.
fn use_tree(words: &[String], mut at: usize, prefix: &mut Path, found: &mut Vec<(Path, String)>) -> usize {
    let length = prefix.len();
    loop {
        match &words[at][..] {
            "::" => {}
            "{" => {
                while words[at] != "}" {
                    at = use_tree(words, at + 1, prefix, found);
                }
                prefix.truncate(length);
                return at + 1;
            }
            "as" => {
                at += 1;
                found.last_mut().expect("a path before `as`").1 = words[at].clone();
            }
            "," | "}" | ";" => {
                prefix.truncate(length);
                return at;
            }
            word => {
                prefix.push(word.to_owned());
                if words[at + 1] != "::" {
                    found.push((prefix.clone(), word.to_owned()));
                }
            }
        }
        at += 1;
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$')
}

/// Words that begin an item; what an attribute stands before is an item, or else an arm, a field or a statement.
const ITEMS: [&str; 14] = [
    "pub", "fn", "mod", "use", "const", "static", "struct", "enum", "impl", "trait", "type", "unsafe", "extern",
    "async",
];

/// Leaves out what has an attribute `cfg(test)` or `cfg(all(test, ...))`.
fn without_tests(words: &[String], module: &[String], test_modules: &mut Vec<Path>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let end = attribute(words, at);
        if end == at {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        let inside = &words[at..end];
        let has = |word: &str| inside.iter().any(|w| w == word);
        let test = has("cfg") && has("test") && !has("any") && !has("not");
        at = end;
        if !test {
            continue;
        }
        if inside[1] == "!" {
            return Vec::new();
        }
        let mut file = None;
        while attribute(words, at) > at {
            let end = attribute(words, at);
            if words[at + 2] == "path" {
                // As a literal: in quotes, with its extension.
                file = words[at..end].iter().find_map(|w| w.strip_prefix('"')?.strip_suffix(".rs\""));
            }
            at = end;
        }
        let item = ITEMS.contains(&&words[at][..]);
        let (start, mut depth) = (at, 0);
        loop {
            match &words[at][..] {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            // The last arm or field of its block.
            if depth < 0 {
                break;
            }
            let ends = match &words[at][..] {
                ";" | "}" => depth == 0,
                "," => depth == 0 && !item,
                _ => false,
            };
            at += 1;
            if ends {
                break;
            }
        }
        let item = &words[start..at];
        if let Some(i) = item.iter().position(|w| w == "mod").filter(|_| item.last().is_some_and(|w| w == ";")) {
            // `path` leads from the folder of this file to its siblings.
            let parent = if file.is_some() { &module[..module.len().saturating_sub(1)] } else { module };
            let name = file.map_or(item[i + 1].clone(), str::to_owned);
            test_modules.push(parent.iter().cloned().chain([name]).collect());
        }
    }
    kept
}

/// The end of the attribute that begins at `at`; `at` if none does.
fn attribute(words: &[String], at: usize) -> usize {
    let open = match words.get(at..) {
        Some([hash, open, ..]) if hash == "#" && open == "[" => at + 1,
        Some([hash, bang, open, ..]) if hash == "#" && bang == "!" && open == "[" => at + 2,
        _ => return at,
    };
    let mut depth = 0;
    for (i, word) in words.iter().enumerate().skip(open) {
        match &word[..] {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    panic!("an attribute without an end");
}

/// Names, `::`, and single other characters; no comments. Literals are one word each, those of text in their quotes.
fn words(text: &str) -> Vec<String> {
    let c: Vec<char> = text.chars().collect();
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, w)| c.get(at + i) == Some(&w));
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    while at < c.len() {
        let begin = at;
        if starts(at, "//") {
            while at < c.len() && c[at] != '\n' {
                at += 1;
            }
            continue;
        }
        if starts(at, "/*") {
            let mut depth = 0;
            loop {
                let step = if starts(at, "/*") {
                    depth += 1;
                    2
                } else if starts(at, "*/") {
                    depth -= 1;
                    2
                } else {
                    1
                };
                at += step;
                if depth == 0 {
                    break;
                }
            }
            continue;
        }
        if c[at].is_whitespace() {
            at += 1;
            continue;
        }
        if c[at].is_alphanumeric() || c[at] == '_' || c[at] == '$' {
            while at < c.len() && (c[at].is_alphanumeric() || c[at] == '_' || c[at] == '$') {
                at += 1;
            }
            let name: String = c[begin..at].iter().collect();
            // The prefix of a literal is no name; without escapes if it has an `r`.
            let raw = matches!(&name[..], "r" | "br" | "cr");
            let hashes = if raw { c[at..].iter().take_while(|c| **c == '#').count() } else { 0 };
            if raw && c.get(at + hashes) == Some(&'"') {
                let end = format!("\"{}", "#".repeat(hashes));
                at += hashes + 1;
                while !starts(at, &end) {
                    at += 1;
                }
                at += end.len();
            } else if !(matches!(&name[..], "b" | "c") && matches!(c.get(at), Some('"' | '\''))) {
                out.push(name);
            }
            continue;
        }
        let lifetime = c[at] == '\'' && c.get(at + 1) != Some(&'\\') && c.get(at + 2) != Some(&'\'');
        if lifetime {
            at += 1;
        } else if c[at] == '"' || c[at] == '\'' {
            at += 1;
            while c[at] != c[begin] {
                at += if c[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            out.push(c[begin..at].iter().collect());
        } else {
            at += if starts(at, "::") { 2 } else { 1 };
            out.push(c[begin..at].iter().collect());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(module: &str, text: &str) -> Vec<String> {
        Source::parse(&path(module), text).uses.iter().map(|p| p.join("::")).collect()
    }

    fn path(text: &str) -> Path {
        text.split("::").filter(|w| !w.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn trees_of_use() {
        assert_eq!(uses("a", "use crate::b;"), ["b"]);
        assert_eq!(uses("a", "use crate::{b::{self, C}, d::*, e as f};"), ["b", "b::C", "d::*", "e"]);
        assert_eq!(uses("a::b", "use super::{c, super::d};\nuse self::e;"), ["a::c", "d", "a::b::e"]);
        assert_eq!(uses("a", "use std::ops::Range;\nuse rayon::prelude::*;"), [""; 0]);
        assert_eq!(uses("a", "mod b;\npub use b::C;\nuse {crate::d, std::fmt};"), ["a::b::C", "d"]);
    }

    #[test]
    fn paths_in_code() {
        assert_eq!(
            uses("a", "fn f(x: &crate::b::C) -> Vec<crate::d::E> { crate::f::g::<u8>() }"),
            ["b::C", "d::E", "f::g"]
        );
        assert_eq!(uses("a::b", "fn f() { super::c::d(); std::mem::take(x) }"), ["a::c::d"]);
        assert_eq!(uses("a", "mod b; const C: u8 = b::C; fn f() { let b = x.b::<u8>(); }"), ["a::b::C"]);
        assert_eq!(uses("a", "macro_rules! m { () => { $crate::b::c() } }"), ["b::c"]);
    }

    #[test]
    fn modules_inside_a_file() {
        assert_eq!(
            uses("a", "mod b { use super::c; fn f() { { super::d::e() } } }\nuse super::g;"),
            ["a::c", "a::d::e", "g"]
        );
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = r##"
            // use crate::b;
            /* crate::c::d /* nested */ crate::e::f */
            const A: &str = "crate::g::h \" crate::i::j";
            const B: &str = r#"use crate::k; ""#;
            const C: [char; 2] = ['"', '\''];
            const D: &[u8] = b"\\";
            fn f<'a>(x: &'a crate::l::M) {}
        "##;
        assert_eq!(uses("a", text), ["l::M"]);
    }

    #[test]
    fn tests_do_not_count() {
        let text = r#"
            #[cfg(test)] use crate::b;
            #[cfg(all(test, feature = "fit"))] mod tests { use crate::c; fn f() { crate::d::e() } }
            #[cfg(any(test, target_os = "none"))] use crate::f;
            #[cfg(not(test))] use crate::g;
            #[cfg(feature = "fit")] use crate::h;
            #[cfg(test)] #[inline] fn f<A, B>(a: A, b: B) { crate::i::j() }
            fn g() { match x { #[cfg(test)] 1 => crate::k::l(2, 3), _ => crate::m::n(), #[cfg(test)] 3 => crate::s::t() } }
            #[cfg(test)] pub(crate) mod o;
            #[cfg(test)] #[path = "q_tests.rs"] mod p;
            use crate::r;
        "#;
        let source = Source::parse(&path("a::b"), text);
        assert_eq!(source.uses, ["f", "g", "h", "m::n", "r"].map(path));
        assert_eq!(source.test_modules, ["a::b::o", "a::q_tests"].map(path));
        assert_eq!(uses("a", "#![cfg(test)]\nuse crate::b;"), [""; 0]);
    }

    #[test]
    fn exports() {
        let source = Source::parse(&[], "mod a; mod b; pub use a::{C, D as E}; pub(crate) use self::b::f; use a::G;");
        let exports: Vec<_> = source.exports.iter().map(|(n, p)| format!("{n} {}", p.join("::"))).collect();
        assert_eq!(exports, ["C a::C", "E a::D", "f b::f"]);
    }
}
