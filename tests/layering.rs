//! Checks the dependencies between the library's modules in `src/` against the order of layers below. Code that is compiled
//! only for tests is not checked.

#[path = "layering/source.rs"]
mod source;

use source::{Path, Source};
use std::collections::{BTreeMap, BTreeSet};

/// The modules from the lowest to the highest layer. A module may use only those of earlier rows; modules of one row may not use
/// each other. A module that is not listed belongs to its parent.
///
/// Put a new module into the lowest row that is above all modules it uses.
const ORDER: &[&[&str]] = &[
    // The decoder half.
    &["crc", "error"],
    &["limits"],
    &["image"],
    &["tensor"],
    &["layers"],
    &["entropy"],
    &["container"],
    &["models"],
    &["models::transform"],
    &["models::gdn", "models::hyperprior", "models::lossless", "models::planes", "models::pyramid"],
    &["decoder"],
    // The encoder half, from FIRST_OF_ENCODER on.
    &["metrics"],
    &["pictures"],
    &["fit::dct", "fit::options", "fit::rng"],
    &["fit::autograd", "fit::checkpoint", "fit::loss", "fit::optim", "fit::water_filling"],
    &["fit::soap", "fit::target"],
    &["fit"],
    &["fit::file"],
    &["fit::transform"],
    &["fit::gdn", "fit::hyperprior", "fit::lossless", "fit::pyramid"],
    &["fit::estimate", "fit::prepare"],
    &["fit::driver"],
    &["fit::select"],
    &["encoder"],
    &["cli", "image_crate"],
];

/// Builds of the decoder alone contain none of the modules from this one on.
const FIRST_OF_ENCODER: &str = "metrics";

/// Modules whose root contains the code shared by the families and the table of all families. Only the root may use the
/// families.
const TABLES: &[(&str, &[&str])] = &[
    ("models", &["models::gdn", "models::hyperprior", "models::lossless", "models::planes", "models::pyramid"]),
    ("fit", &["fit::gdn", "fit::hyperprior", "fit::pyramid"]),
];

/// The parsed file of each module.
type Crate = BTreeMap<Path, Source>;

/// Parses pairs of file name and text. File names are `a.rs`, `a/mod.rs` or `a/b.rs`; the root is `lib.rs`.
fn parse(files: &[(String, String)]) -> Crate {
    let module = |name: &str| -> Path {
        let name = name.strip_suffix(".rs").expect("a Rust file");
        let name = name.strip_suffix("/mod").unwrap_or(name);
        if name == "lib" {
            Path::new()
        } else {
            name.split('/').map(str::to_owned).collect()
        }
    };
    let mut all: Crate = files.iter().map(|(n, text)| (module(n), Source::parse(&module(n), text))).collect();
    let test: Vec<Path> = all.values().flat_map(|s| s.test_modules.clone()).collect();
    all.retain(|m, _| !test.iter().any(|t| m.starts_with(t)));
    all
}

/// The row of `order` that lists `module` or its closest listed ancestor, and the listed name.
fn row<'a>(order: &[&[&'a str]], module: &[String]) -> Option<(usize, &'a str)> {
    (1..=module.len()).rev().find_map(|n| {
        let name = module[..n].join("::");
        order.iter().enumerate().find_map(|(i, row)| row.iter().find(|m| **m == name).map(|m| (i, *m)))
    })
}

/// The path of the definition, with re-exports resolved.
fn origin(all: &Crate, path: &Path) -> Path {
    let exported = |path: &Path| {
        (0..path.len()).find_map(|n| {
            let found = all.get(&path[..n])?.exports.get(&path[n])?;
            Some([found, &path[n + 1..]].concat())
        })
    };
    // A chain of re-exports is short.
    (0..8).try_fold(path.clone(), |path, _| exported(&path).ok_or(path)).unwrap_or_else(|path| path)
}

/// All uses that the order does not allow, as one line each.
fn violations(all: &Crate, order: &[&[&str]], tables: &[(&str, &[&str])]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (module, source) in all.iter().filter(|(module, _)| !module.is_empty()) {
        let from = module.join("::");
        let Some((row_from, unit)) = row(order, module) else {
            found.insert(format!("{from} is in no row"));
            continue;
        };
        for path in &source.uses {
            let path = origin(all, path);
            let Some((row_to, used)) = row(order, &path) else {
                found.insert(format!("{from} uses crate::{}, which is in no row", path.join("::")));
                continue;
            };
            let named = tables.iter().any(|(root, families)| *root == from && families.contains(&used));
            if used != unit && row_to >= row_from && !named {
                found.insert(format!("{from} uses crate::{}: {used} is not below {unit}", path.join("::")));
            }
        }
    }
    found
}

fn library() -> Crate {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            // The binaries are not part of the library.
            if name == "bin" || name == "main.rs" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                files.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    parse(&files)
}

#[test]
fn modules_only_use_lower_layers() {
    let found = violations(&library(), ORDER, TABLES);
    assert!(found.is_empty(), "{} uses against the order:\n{}", found.len(), Vec::from_iter(found).join("\n"));
}

/// Entries for modules that no longer exist would allow unintended uses.
#[test]
fn every_listed_module_exists_once() {
    let all = library();
    let names: Vec<&str> = ORDER.concat();
    for name in &names {
        assert!(all.contains_key(&name.split("::").map(str::to_owned).collect::<Path>()), "{name}");
        assert_eq!(names.iter().filter(|n| *n == name).count(), 1, "{name}");
    }
    assert!(TABLES.iter().all(|(root, families)| families.iter().all(|f| f.starts_with(&format!("{root}::")))));
}

/// The modules that `lib.rs` compiles only with a feature are exactly those from `FIRST_OF_ENCODER` on.
#[test]
fn the_decoder_builds_without_the_encoder() {
    let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let first = ORDER.iter().position(|row| row.contains(&FIRST_OF_ENCODER)).unwrap();
    let mut feature = false;
    for line in text.lines().map(str::trim) {
        feature |= line.starts_with("#[cfg(feature");
        if let Some(module) = line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")) {
            let module = vec![module.trim_end_matches(';').to_owned()];
            let (row, name) = row(ORDER, &module).expect("a row for each module");
            assert_eq!(row >= first, feature, "{name}");
            feature = false;
        }
    }
}

#[test]
fn violations_are_found() {
    let order: &[&[&str]] = &[&["low"], &["root"], &["root::a", "root::b"], &["high"]];
    let tables: &[(&str, &[&str])] = &[("root", &["root::a", "root::b"])];
    let check = |files: &[(&str, &str)]| {
        let good = [
            ("lib.rs", "pub mod low; pub mod root; pub mod high; pub use root::shared::Shared; pub use high::High;"),
            ("low.rs", "use std::fmt;"),
            ("root/mod.rs", "mod shared; mod a; mod b; use a::A; pub use shared::Shared; fn f() { b::b() }"),
            ("root/a/mod.rs", "mod part; use super::Shared; use part::Part;"),
            ("root/a/part.rs", "use crate::{low::Low, Shared}; #[cfg(test)] mod tests;"),
            ("root/a/part/tests.rs", "use crate::high::High;"),
            ("root/b.rs", "use super::shared; #[cfg(test)] mod tests { use crate::high::High; }"),
            ("root/shared.rs", "use crate::low;"),
            ("high.rs", "use crate::root::{a::A, Shared};"),
        ];
        let kept = good.iter().filter(|(name, _)| files.iter().all(|(other, _)| name != other));
        let files: Vec<_> = kept.chain(files).map(|(n, t)| (n.to_string(), t.to_string())).collect();
        Vec::from_iter(violations(&parse(&files), order, tables))
    };
    assert_eq!(check(&[]), [""; 0]);
    assert_eq!(check(&[("low.rs", "use crate::high::X;")]), ["low uses crate::high::X: high is not below low"]);
    assert_eq!(check(&[("low.rs", "use crate::High;")]), ["low uses crate::high::High: high is not below low"]);
    assert_eq!(
        check(&[("root/b.rs", "fn f() -> super::a::A { crate::root::a::part::p() }")]),
        [
            "root::b uses crate::root::a::A: root::a is not below root::b",
            "root::b uses crate::root::a::part::p: root::a is not below root::b"
        ]
    );
    assert_eq!(
        check(&[("root/shared.rs", "use super::b::B;")]),
        ["root::shared uses crate::root::b::B: root::b is not below root"]
    );
    assert_eq!(check(&[("new.rs", "")]), ["new is in no row"]);
    assert_eq!(check(&[("high.rs", "use crate::new;")]), ["high uses crate::new, which is in no row"]);
}
