//! The example in docs/FORMAT.md equals a golden file byte by byte.

use std::fs;
use std::path::Path;

#[test]
fn the_example_is_the_golden_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/FORMAT.md")).unwrap();
    let example = text.split("### An example").nth(1).unwrap().split("\n## ").next().unwrap();
    let name = example.split('`').nth(1).unwrap();
    let file = fs::read(root.join(name)).unwrap();
    let mut at = 0;
    for row in example.lines().filter(|l| l.starts_with("| 0x")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let offset = usize::from_str_radix(cells[1].trim_start_matches("0x"), 16).unwrap();
        assert_eq!(offset, at, "{row}");
        let shown = cells[2].split('`').nth(1).unwrap();
        let shown: Vec<u8> = shown.split(' ').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
        assert_eq!(&file[at..at + shown.len()], shown, "{row}");
        let more = cells[2].split(" and ").nth(1).map_or(0, |m| m.trim_end_matches(" more").parse().unwrap());
        at += shown.len() + more;
    }
    assert_eq!(at, file.len());
}
