//! Checks that relative links and anchors in the repository's Markdown files resolve. Web addresses are not fetched.
#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// A Markdown file's links, with their line numbers, and the anchors it offers.
#[derive(Debug, Default)]
struct Page {
    links: Vec<(usize, String)>,
    anchors: BTreeSet<String>,
}

/// Removes code spans, so that examples of links are not taken for links.
fn without_code(line: &str) -> String {
    let mut rest = line;
    let mut text = String::new();
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let fence = "`".repeat(ticks);
        let body = &rest[start + ticks..];
        text.push_str(&rest[..start]);
        rest = match closing(body, &fence) {
            Some(end) => &body[end + ticks..],
            None => body,
        };
    }
    text + rest
}

/// Returns where a run of exactly `fence` begins in `body`.
fn closing(body: &str, fence: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = body[from..].find(fence) {
        let start = from + found;
        let run = body[start..].chars().take_while(|c| *c == '`').count();
        if run == fence.len() {
            return Some(start);
        }
        from = start + run;
    }
    None
}

/// Returns the targets of `[text](target)`, `![text](target)`, `[name]: target`, `href="…"` and `src="…"`.
fn targets(line: &str) -> Vec<String> {
    let until = |text: &str, end: &[char]| text[..text.find(end).unwrap_or(text.len())].to_owned();
    let mut found: Vec<String> = line
        .split("](")
        .skip(1)
        .map(|rest| until(rest, &[')', ' ']))
        .collect();
    for attribute in ["href=\"", "src=\""] {
        found.extend(line.split(attribute).skip(1).map(|rest| until(rest, &['"'])));
    }
    if let Some((name, target)) = line.trim_start().split_once("]: ")
        && name.starts_with('[')
        && !name.contains(' ')
    {
        found.push(until(target.trim(), &[' ']));
    }
    found
}

/// The anchor that GitHub gives a heading, before repeated headings are numbered.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading.trim();
    // A link contributes its text only.
    while let Some(end) = rest.find("](") {
        text.push_str(&rest[..end]);
        rest = rest[end..].find(')').map_or("", |close| &rest[end + close + 1..]);
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut seen = BTreeMap::<String, usize>::new();
    let mut fence: Option<&str> = None;
    for (number, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark)) {
            match fence {
                Some(open) if open == mark => fence = None,
                Some(_) => {}
                None => fence = Some(mark),
            }
            continue;
        }
        if fence.is_some() {
            continue;
        }
        let hashes = start.chars().take_while(|c| *c == '#').count();
        if (1..=6).contains(&hashes) && start[hashes..].starts_with(' ') {
            let anchor = slug(&start[hashes..]);
            let repeated = seen.entry(anchor.clone()).or_default();
            page.anchors.insert(match *repeated {
                0 => anchor,
                n => format!("{anchor}-{n}"),
            });
            *repeated += 1;
        }
        let prose = without_code(line);
        for attribute in [" id=\"", " name=\""] {
            for rest in prose.split(attribute).skip(1) {
                page.anchors.extend(rest.split('"').next().map(str::to_owned));
            }
        }
        page.links
            .extend(targets(&prose).into_iter().map(|target| (number + 1, target)));
    }
    page
}

/// Collects the Markdown files below `folder`, without build output, local data and virtual environments.
fn markdown_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let skipped = ["target", "node_modules"].contains(&name.as_str())
            || (name.starts_with('.') && name != ".github")
            || path.join("pyvenv.cfg").exists();
        if path.is_dir() && !path.is_symlink() {
            if !skipped {
                markdown_files(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}

/// Joins `target` to `folder` without leaving the repository.
fn resolve(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Returns why the link `target` in `file` does not resolve.
fn fault(root: &Path, pages: &BTreeMap<PathBuf, Page>, file: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() {
        file.to_owned()
    } else {
        match resolve(file.parent().unwrap(), path) {
            Some(path) => path,
            None => return Some("leaves the repository".to_owned()),
        }
    };
    if !root.join(&path).exists() {
        return Some(format!("{} does not exist", path.display()));
    }
    match pages.get(&path) {
        Some(page) if !anchor.is_empty() && !page.anchors.contains(anchor) => {
            Some(format!("{} has no heading #{anchor}", path.display()))
        }
        _ => None,
    }
}

#[test]
fn links_in_markdown_files_resolve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = vec![];
    markdown_files(root, &mut files);
    let pages: BTreeMap<PathBuf, Page> = files
        .into_iter()
        .map(|file| {
            let page = read(&std::fs::read_to_string(&file).unwrap());
            (file.strip_prefix(root).unwrap().to_owned(), page)
        })
        .collect();
    assert!(
        pages.contains_key(Path::new("README.md")),
        "no README.md in {root:?}"
    );
    let faults: Vec<String> = pages
        .iter()
        .flat_map(|(file, page)| page.links.iter().map(move |link| (file, link)))
        .filter_map(|(file, (line, target))| {
            let fault = fault(root, &pages, file, target)?;
            Some(format!("{}:{line}: {target}: {fault}", file.display()))
        })
        .collect();
    assert!(faults.is_empty(), "broken links:\n{}", faults.join("\n"));
}

#[test]
fn headings_get_the_anchors_that_github_gives_them() {
    let page = read("# A job's *state*\n## `GET /v1/jobs/{id}`\n## [Link](x.md) to_it\n## Twice\n## Twice\n");
    let anchors: Vec<&str> = page.anchors.iter().map(String::as_str).collect();
    assert_eq!(
        anchors,
        ["a-jobs-state", "get-v1jobsid", "link-to_it", "twice", "twice-1"]
    );
}

#[test]
fn code_has_no_links() {
    let page =
        read("a [b](c.md) `[d](e.md)` ``[`f`](g.md)`` ![h](i.svg \"j\")\n```\n[k](l.md)\n```\n[m]: n.md\n");
    let links: Vec<&str> = page.links.iter().map(|(_, target)| target.as_str()).collect();
    assert_eq!(links, ["c.md", "i.svg", "n.md"]);
}
