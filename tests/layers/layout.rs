//! Checks the layout of `src/`: no two files import each other, directly or through others,
//! folders import only what the table in `docs/ARCHITECTURE.md` lists, and the files and functions
//! that this page names exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A module's path, such as `["delivery", "drain"]`. The crate root has an empty path.
type Module = Vec<String>;

#[derive(Debug)]
struct Import {
    is_reexport: bool,
    module: Module,
    /// The path below the module. Its first segment may be another module.
    rest: Vec<String>,
}

/// The imports of each file. Imports of tests do not count.
struct Sources(BTreeMap<Module, Vec<Import>>);

impl Sources {
    fn read() -> Self {
        let mut sources = Self(BTreeMap::new());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        sources.read_folder(&root, &[]);
        sources
    }

    fn read_folder(&mut self, folder: &Path, module: &[String]) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let inner = [module, &[name.to_owned()]].concat();
            if path.is_dir() {
                self.read_folder(&path, &inner);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let is_folder = ["lib", "mod"].contains(&name);
                let module = if is_folder { module.to_vec() } else { inner };
                let imports = imports(&fs::read_to_string(&path).unwrap(), &module);
                self.0.insert(module, imports);
            }
        }
    }

    /// Returns the file that defines the imported item, through all re-exports.
    fn definition(&self, module: &[String], rest: &[String]) -> Module {
        let Some((name, further)) = rest.split_first() else {
            return module.to_vec();
        };
        let inner = [module, std::slice::from_ref(name)].concat();
        if self.0.contains_key(&inner) {
            return self.definition(&inner, further);
        }
        let mut reexports = self.0[module].iter().filter(|import| import.is_reexport);
        match reexports.find(|import| import.rest.last() == Some(name)) {
            Some(import) => self.definition(&import.module, &import.rest),
            None => module.to_vec(),
        }
    }

    /// Returns which file imports which. The crate root does not count, because it only re-exports,
    /// as each `mod.rs` does.
    fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut arrows = BTreeMap::<_, BTreeSet<_>>::new();
        for (from, imports) in self.0.iter().filter(|(from, _)| !from.is_empty()) {
            for import in imports {
                let to = self.definition(&import.module, &import.rest);
                let is_facade = import.is_reexport && to.starts_with(from);
                if !to.is_empty() && to != *from && !is_facade {
                    arrows.entry(from.clone()).or_default().insert(to);
                }
            }
        }
        arrows
    }
}

/// Returns the code without comments and tests. Each line comes with its depth of inline modules.
/// This relies on rustfmt: an item ends at a `}` with the item's indentation.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut inner_modules = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        let ends_item = |line: &str| line.strip_prefix(indent) == Some("}");
        if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[cfg(all(test") {
            // The lines within the item are indented further, and may end at a `;` as well.
            lines.find(|line| {
                let rest = line.strip_prefix(indent).unwrap_or_default();
                ends_item(line) || (rest.ends_with(';') && !rest.starts_with(' '))
            });
        } else if trimmed.starts_with("mod ") && trimmed.ends_with('{') {
            inner_modules.push(format!("{indent}}}"));
        } else if inner_modules.last().is_some_and(|end| end == line) {
            inner_modules.pop();
        } else if !trimmed.starts_with("//") {
            code.push((inner_modules.len(), line));
        }
    }
    code
}

fn imports(text: &str, module: &[String]) -> Vec<Import> {
    let mut imports = Vec::new();
    let mut add = |is_reexport, depth: usize, path: &str| {
        let mut rest: Vec<String> = path
            .split("::")
            .map(|part| part.trim().to_owned())
            .collect();
        let mut module = module.to_vec();
        let supers = rest.iter().take_while(|part| *part == "super").count();
        match rest[0].as_str() {
            "crate" => module.clear(),
            "self" => {}
            "super" => module.truncate((module.len() + depth).saturating_sub(supers)),
            _ => return,
        }
        rest.drain(..supers.max(1));
        rest.retain(|part| part != "self" && part != "*");
        imports.push(Import {
            is_reexport,
            module,
            rest,
        });
    };
    let code = code(text);
    let mut lines = code.iter();
    while let Some((depth, line)) = lines.next() {
        let item = line.trim_start();
        let used = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "]
            .iter()
            .find_map(|start| item.strip_prefix(start));
        let Some(used) = used else {
            paths(line, |path| add(false, *depth, path));
            continue;
        };
        let mut tree = used.to_owned();
        while !tree.ends_with(';') {
            tree += lines.next().expect("a `use` ends").1.trim();
        }
        let is_reexport = item.starts_with("pub");
        expand(tree.trim_end_matches(';'), &mut |path| {
            add(is_reexport, *depth, path);
        });
    }
    imports
}

/// Finds the full paths in a line, such as `crate::limit::RefusalKind`.
fn paths(line: &str, mut found: impl FnMut(&str)) {
    for start in ["crate::", "super::"] {
        for (at, _) in line.match_indices(start) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path = line[at..].split(|c| !is_path(c)).next().unwrap();
            if !line[..at].ends_with(is_path) {
                found(path.trim_end_matches(':'));
            }
        }
    }
}

/// Yields the paths of a `use` tree. For `a::{b, c::d}` these are `a::b` and `a::c::d`.
fn expand(tree: &str, found: &mut impl FnMut(&str)) {
    let Some((before, inner)) = tree.split_once('{') else {
        found(tree.split(" as ").next().unwrap());
        return;
    };
    let inner = &inner[..inner.rfind('}').unwrap()];
    let mut depth = 0;
    let parts = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for part in parts.filter(|part| !part.trim().is_empty()) {
        expand(&format!("{before}{}", part.trim()), found);
    }
}

/// Returns a chain of files that ends where it began.
fn cycle(arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    fn visit(
        module: &Module,
        arrows: &BTreeMap<Module, BTreeSet<Module>>,
        chain: &mut Vec<Module>,
        done: &mut BTreeSet<Module>,
    ) -> bool {
        if let Some(start) = chain.iter().position(|earlier| earlier == module) {
            chain.drain(..start);
            chain.push(module.clone());
            return true;
        }
        if done.contains(module) {
            return false;
        }
        chain.push(module.clone());
        let imported = arrows.get(module).into_iter().flatten();
        for next in imported {
            if visit(next, arrows, chain, done) {
                return true;
            }
        }
        done.insert(module.clone());
        chain.pop();
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|module| {
        let mut chain = Vec::new();
        visit(module, arrows, &mut chain, &mut done).then_some(chain)
    })
}

const PAGE: &str = include_str!("../../docs/ARCHITECTURE.md");

/// Reads the rows of the table in `docs/ARCHITECTURE.md`. Each row is a folder and its imports.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let mut lines = PAGE.lines();
    lines.find(|line| line.starts_with("| folder |"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let names = |cell: &str| {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted
            .map(|name| name.trim_end_matches('/').to_owned())
            .collect::<Vec<_>>()
    };
    let row = |row: &str| {
        let cells: Vec<_> = row.split('|').collect();
        let folder = names(cells[1]).remove(0);
        (folder, names(cells[3]).into_iter().collect())
    };
    rows.map(row).collect()
}

#[test]
fn files_import_each_other_without_cycles() {
    let arrows = Sources::read().arrows();
    if let Some(cycle) = cycle(&arrows) {
        let files: Vec<_> = cycle.iter().map(|module| module.join("/")).collect();
        panic!("these files import each other: {}", files.join(" -> "));
    }
}

#[test]
fn folders_import_what_the_table_lists() {
    let arrows = Sources::read().arrows();
    let mut imports = BTreeMap::<_, BTreeSet<_>>::new();
    for (from, to) in &arrows {
        let others = to.iter().map(|to| &to[0]).filter(|to| **to != from[0]);
        let known = imports.entry(from[0].clone()).or_default();
        known.extend(others.cloned());
    }
    for (folder, listed) in table() {
        let found = imports.remove(&folder).unwrap_or_default();
        assert_eq!(
            found, listed,
            "`{folder}` imports the former; the table lists the latter"
        );
    }
    imports.retain(|_, found| !found.is_empty());
    assert!(imports.is_empty(), "not in the table: {imports:?}");
}

#[test]
fn table_lists_only_imports_from_rows_above() {
    let mut above = BTreeSet::new();
    for (folder, listed) in table() {
        assert!(
            listed.is_subset(&above),
            "`{folder}` imports a folder below it"
        );
        above.insert(folder);
    }
}

/// Returns the files and functions that a text names and `src/` lacks: a path below `src/`, such
/// as `delivery/future.rs`, and `file.rs::function`. Files elsewhere have their whole paths.
fn missing(text: &str) -> Vec<String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_/.:".contains(c);
    let words = text.split(|c| !is_part(c));
    let words = words.map(|word| word.trim_end_matches(['.', ':']));
    let exists = |word: &str| match word.split_once("::") {
        Some((file, function)) => {
            let text = fs::read_to_string(repository.join("src").join(file));
            let text = text.unwrap_or_default();
            let starts = [format!("fn {function}("), format!("fn {function}<")];
            let mut code = code(&text).into_iter().map(|(_, line)| line);
            code.any(|line| starts.iter().any(|start| line.contains(start)))
        }
        None => ["src", ""]
            .iter()
            .any(|folder| repository.join(folder).join(word).is_file()),
    };
    words
        .filter(|word| word.contains(".rs::") || (word.ends_with(".rs") && word.contains('/')))
        .filter(|word| !exists(word))
        .map(str::to_owned)
        .collect()
}

/// Returns the arrows of the page's diagrams.
fn diagram_arrows() -> impl Iterator<Item = &'static str> {
    let diagrams = PAGE.split("```mermaid").skip(1);
    let diagrams = diagrams.filter_map(|diagram| diagram.split("```").next());
    diagrams
        .flat_map(str::lines)
        .filter(|line| line.contains(">>"))
}

#[test]
fn files_and_functions_on_the_page_exist() {
    assert_eq!(missing(PAGE), [""; 0]);
}

#[test]
fn made_up_file_or_function_is_missing() {
    let named = "`linger/io.rs::poll_read` of `linger/io.rs`, and `tests/layers/layout.rs`.";
    assert_eq!(missing(named), [""; 0]);
    for made_up in [
        "linger/io.rs::poll_rea",
        // Another folder has a file of that name with the function.
        "linger/handoff.rs::settle",
        "io.rs::poll_read",
        "linger/no_such_file.rs",
        // A test's.
        "delivery/drain.rs::until_gone",
    ] {
        let text = format!("A->>B: {made_up}<br/>`{made_up}`.");
        assert_eq!(missing(&text), [made_up; 2]);
    }
}

#[test]
fn each_arrow_of_a_diagram_names_a_function() {
    let without: Vec<_> = diagram_arrows()
        .filter(|arrow| !arrow.contains(".rs::"))
        .collect();
    assert_eq!(without, [""; 0]);
    assert!(diagram_arrows().count() >= 32);
}
