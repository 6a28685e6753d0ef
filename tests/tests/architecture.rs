//! Each `lib.rs` lists its modules in the order in which data flows, and a module uses only modules above it.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn the_engine_s_modules_use_only_modules_above_them() {
    check("engine");
}

#[test]
fn the_web_server_s_modules_use_only_modules_above_them() {
    check("web");
}

#[test]
fn the_engine_s_kernels_compute_and_read_nothing() {
    check_uses("engine", "kernels", |root, name| match root {
        "crate" => ["kernels", "memory", "pool", "logits"].contains(&name),
        "std" => !["fs", "io", "net", "env", "process"].contains(&name),
        _ => name != "memmap2",
    });
}

#[test]
fn sampling_knows_no_kernel_and_no_model() {
    check_uses("engine", "sampling", |root, name| {
        root != "crate" || !["kernels", "model", "checkpoint", "pool"].contains(&name)
    });
}

#[test]
fn every_use_of_a_crate_is_seen() {
    let source = "\
use std::{
    fmt,
    io::{self, Read},
};
use memmap2::Mmap;
fn f() { std::fs::read(\"\"); super::memory::g(); }
";
    assert_eq!(names_after(&without_tests_and_comments(source), "std"), ["fmt", "io", "fs"]);
    let seen = uses(source, 1);
    for used in [("std", "io"), ("std", "fs"), ("", "memmap2"), ("crate", "memory")] {
        assert!(seen.contains(&(used.0, used.1.to_owned())), "{used:?} in {seen:?}");
    }
}

#[test]
fn every_way_to_name_a_module_is_seen_except_in_tests_and_comments() {
    let source = "\
//! Fills what [`crate::linked`] reads.
use crate::direct::Thing;
use crate::{
    grouped,
    nested::{self, Inner},
    last,
};
fn f() { crate::called::g(); super::parent::h(); super::super::grandparent::i() }
#[cfg(test)]
use crate::one_line;
#[cfg(test)]
mod tests {
    use crate::tested;
    fn f() {
    }
}
use crate::after_the_tests;
";
    let of_the_crate = ["direct", "grouped", "nested", "last", "called", "after_the_tests"];
    for (depth, of_super) in [(1, "parent"), (2, "grandparent")] {
        let mut named = modules_named(source, depth);
        named.retain(|name| !name.is_empty());
        assert_eq!(named, [&of_the_crate[..], &[of_super]].concat());
    }
}

/// Fails with every use of a later module in `crates/<name>/src`, and every module that the architecture page lacks.
fn check(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = root.join("crates").join(name).join("src");
    let map = read(&root.join("ARCHITECTURE.md"));
    let order = modules(&read(&source.join("lib.rs")));
    assert!(!order.is_empty(), "{name} has no modules");
    let mut wrong = Vec::new();
    for (position, module) in order.iter().enumerate() {
        for (file, depth) in files(&source, module) {
            let later = modules_named(&read(&file), depth);
            let later = later.into_iter().filter(|used| order[position + 1..].contains(used));
            wrong.extend(later.map(|used| format!("{} uses {used}, which comes later", file.display())));
        }
        if !map.contains(&format!("`{module}`")) {
            wrong.push(format!("ARCHITECTURE.md does not mention `{module}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Fails with every use in a module, outside of its tests, that is not allowed: a name directly below the roots `crate` and `std`, or
/// that of another crate.
fn check_uses(name: &str, module: &str, allowed: impl Fn(&str, &str) -> bool) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name).join("src");
    let mut wrong = Vec::new();
    for (file, depth) in files(&source, module) {
        let uses = uses(&read(&file), depth).into_iter();
        let uses = uses.filter(|(root, name)| !name.is_empty() && !allowed(root, name));
        wrong.extend(uses.map(|(root, name)| format!("{} uses {root}::{name}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a source names, outside of tests and comments: modules of its own crate, those of `std`, and, with an empty root, whatever else
/// stands before a `::`.
fn uses(source: &str, depth: usize) -> Vec<(&'static str, String)> {
    let code = without_tests_and_comments(source);
    let own = modules_named(source, depth).into_iter().map(|name| ("crate", name));
    let std = names_after(&code, "std").into_iter().map(|name| ("std", name));
    let before = |(end, _): (usize, &str)| {
        let start = code[..end].rfind(|character: char| !(character.is_alphanumeric() || character == '_'));
        ("", code[start.map_or(0, |start| start + 1)..end].to_owned())
    };
    own.chain(std).chain(code.match_indices("::").map(before)).collect()
}

/// The first names of the paths that begin with a root.
fn names_after(code: &str, root: &str) -> Vec<String> {
    let root = format!("{root}::");
    let names = code.match_indices(&root).flat_map(|(start, _)| first_names(&code[start + root.len()..]));
    names.filter(|name| !name.is_empty()).collect()
}

/// The modules that a `lib.rs` declares, in its order.
fn modules(lib: &str) -> Vec<String> {
    let declared = lib.lines().filter_map(|line| {
        let item = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")).unwrap_or(line);
        item.strip_prefix("mod ")?.strip_suffix(';')
    });
    declared.map(str::to_owned).collect()
}

/// The files of a module without its tests, each with the number of `super::` that lead from it to the crate's root.
fn files(source: &Path, module: &str) -> Vec<(PathBuf, usize)> {
    let mut paths = vec![(source.join(module).with_extension("rs"), 1), (source.join(module), 1)];
    let mut files = Vec::new();
    while let Some((path, depth)) = paths.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable folder");
            let entries = entries.map(|entry| entry.expect("a readable folder").path());
            let entries = entries.filter(|path| path.file_stem().is_some_and(|stem| stem != "tests"));
            paths.extend(
                entries.map(|path| (path.clone(), if path.ends_with("mod.rs") { depth } else { depth + 1 })),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            files.push((path, depth));
        }
    }
    assert!(!files.is_empty(), "{module} has no file");
    files
}

/// What follows `crate::`, or exactly `depth` times `super::`, in code that is neither a test nor a comment.
fn modules_named(source: &str, depth: usize) -> Vec<String> {
    let code = without_tests_and_comments(source);
    let mut names = Vec::new();
    for root in ["crate::", &"super::".repeat(depth)] {
        for (start, _) in code.match_indices(root) {
            let (before, after) = (&code[..start], &code[start + root.len()..]);
            if !before.ends_with("super::") && !after.starts_with("super::") {
                names.extend(first_names(after));
            }
        }
    }
    names
}

/// The first name of a path, or of each path of a group.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut names = vec![name(group)];
    let mut nesting = 0;
    for (position, character) in group.char_indices() {
        match character {
            '{' => nesting += 1,
            '}' if nesting == 0 => break,
            '}' => nesting -= 1,
            ',' if nesting == 0 => names.push(name(&group[position + 1..])),
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|&character| character.is_alphanumeric() || character == '_')
        .collect()
}

/// Relies on rustfmt: an item ends on the first line that is indented like its beginning and ends with `}` or `;`.
fn without_tests_and_comments(source: &str) -> String {
    let mut code = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let indentation = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("#[cfg(test)]") || line.trim_start().starts_with("#[cfg(all(test,") {
            let ends = |line: &str| {
                let item = line.strip_prefix(indentation).unwrap_or_default();
                !item.starts_with(' ') && item.ends_with(['}', ';'])
            };
            lines.by_ref().find(|line| ends(line));
        } else {
            code.push_str(line.split("//").next().unwrap_or_default());
            code.push('\n');
        }
    }
    code
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
