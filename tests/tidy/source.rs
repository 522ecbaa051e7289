//! Reads Rust just well enough for the checks of `tidy`: where comments and strings are, what paths are used,
//! where functions begin and end. No parser; it errs, if at all, on code that rustfmt would not leave
//! standing.

use std::fs;
use std::ops::Range;
use std::path::Path;

/// One file.
pub struct Source {
    /// From the project's root, with `/`.
    pub path: String,
    pub text: String,
    /// The text with comments and strings blanked, byte for byte, so that positions agree.
    pub code: String,
    /// The text with comments alone blanked.
    uncommented: String,
}

/// All our Rust and SQL.
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for (top, ending) in [("src", "rs"), ("tests", "rs"), ("migrations", "sql")] {
        collect(Path::new(top), ending, &mut found);
    }
    found
}

fn collect(dir: &Path, ending: &str, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)) else { return };
    for entry in entries {
        let entry = entry.expect("a directory can be listed");
        let path = dir.join(entry.file_name());
        if entry.path().is_dir() {
            collect(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            let text = fs::read_to_string(entry.path()).expect("a source file is UTF-8");
            found.push(Source::new(path.to_str().expect("a file name is UTF-8"), &text));
        }
    }
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, uncommented) = blank(text);
        Self { path: path.to_owned(), text: text.to_owned(), code, uncommented }
    }

    /// Whether it is part of the program, not of its tests.
    pub fn is_ours(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// The room it belongs to, if it is part of the program.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        inside.split(['/', '.']).next()
    }

    pub fn line_of(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    pub fn text_without_comments(&self) -> String {
        self.uncommented.clone()
    }

    pub fn text_without_sql_comments(&self) -> String {
        let strip = |line: &str| line.split("--").next().unwrap_or_default().to_owned() + "\n";
        self.text.lines().map(strip).collect()
    }

    /// What `super::` chains long enough to leave the room lead to.
    pub fn uses_through_super(&self) -> Vec<String> {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let way_out = "super::".repeat(inside.split('/').count());
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices(&way_out) {
            expand(&self.code[at + way_out.len()..], "", &mut found);
        }
        found
    }

    /// Where its functions are, signature and body, nested ones on their own too.
    pub fn functions(&self) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let tokens = words(&self.code);
        for pair in tokens.windows(2) {
            let ((at, word), (name_at, name)) = (pair[0], pair[1]);
            // `fn` before a bracket is a type, and then the next word is not its neighbour.
            if word == "fn" && self.code[at + 2..name_at].trim().is_empty() {
                found.extend(self.end_of_function(name_at + name.len()).map(|end| at..end));
            }
        }
        found
    }

    /// Just after the closing brace of the function whose name ends at `from`; none if it has no body.
    fn end_of_function(&self, from: usize) -> Option<usize> {
        let mut braces = 0_usize;
        let mut brackets = 0_usize;
        for (offset, byte) in self.code[from..].bytes().enumerate() {
            match byte {
                b'(' | b'[' => brackets += 1,
                b')' | b']' => brackets = brackets.saturating_sub(1),
                b'{' => braces += 1,
                b'}' if braces == 1 => return Some(from + offset + 1),
                b'}' => braces = braces.saturating_sub(1),
                b';' if braces == 0 && brackets == 0 => return None,
                _ => {}
            }
        }
        None
    }
}

/// Every path used below `root`, two names deep: `use crate::{a, b::{c, d}}` uses `a`, `b::c` and `b::d`.
pub fn uses(code: &str, root: &str) -> Vec<String> {
    let start = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        if !code[..at].ends_with(|c: char| is_word_char(c) || c == ':' || c == '$') {
            expand(&code[at + start.len()..], "", &mut found);
        }
    }
    found
}

fn expand(rest: &str, before: &str, found: &mut Vec<String>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        for item in items(group) {
            expand(item, before, found);
        }
        return;
    }
    let end = rest.find(|c: char| !is_word_char(c) && c != '*').unwrap_or(rest.len());
    let name = &rest[..end];
    if name.is_empty() {
        return;
    }
    let path = match (before, name) {
        ("", _) => name.to_owned(),
        (_, "self") => before.to_owned(),
        _ => format!("{before}::{name}"),
    };
    match rest[end..].strip_prefix("::") {
        Some(deeper) if before.is_empty() => expand(deeper, &path, found),
        Some(_) | None => found.push(path),
    }
}

/// The parts of a group between its own commas, to its closing brace.
fn items(group: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                found.push(&group[start..at]);
                return found;
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

pub fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every word and where it begins.
pub fn words(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (start, is_word_char(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                found.push((from, &text[from..at]));
                start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    found
}

/// The text without comments and strings, and without comments alone; both as long as the text.
fn blank(text: &str) -> (String, String) {
    let mut code = text.as_bytes().to_vec();
    let mut uncommented = code.clone();
    let mut at = 0;
    while at < text.len() {
        let (length, is_comment) = opaque(text, at);
        if length == 0 {
            at += 1;
            continue;
        }
        for index in at..at + length {
            if code[index] != b'\n' {
                code[index] = b' ';
                if is_comment {
                    uncommented[index] = b' ';
                }
            }
        }
        at += length;
    }
    let text_again = |bytes| String::from_utf8(bytes).expect("whole characters are blanked");
    (text_again(code), text_again(uncommented))
}

/// Length of the comment, string or character that begins here (0 if none does), and whether it is a comment.
fn opaque(text: &str, at: usize) -> (usize, bool) {
    if !text.is_char_boundary(at) {
        return (0, false);
    }
    let rest = &text[at..];
    let to_end = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return (to_end(rest.find('\n')), true);
    }
    if rest.starts_with("/*") {
        return (to_end(rest.find("*/").map(|end| end + 2)), true);
    }
    if rest.starts_with('r') && !text[..at].ends_with(|c: char| is_word_char(c) && c != 'b') {
        let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
        if rest[1 + hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = &rest[2 + hashes..];
            return (to_end(body.find(&close).map(|end| 2 + hashes + end + close.len())), false);
        }
    }
    if let Some(body) = rest.strip_prefix('"') {
        return (to_end(closing_quote(body, '"').map(|end| end + 2)), false);
    }
    if let Some(body) = rest.strip_prefix('\'') {
        // A lifetime has no closing quote after one character.
        let mut chars = body.char_indices().skip(1);
        let is_character = body.starts_with('\\') || chars.next().is_some_and(|(_, c)| c == '\'');
        if is_character {
            return (to_end(closing_quote(body, '\'').map(|end| end + 2)), false);
        }
    }
    (0, false)
}

fn closing_quote(body: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

#[test]
fn comments_and_strings_are_blanked_and_nothing_else() {
    let text = "a(\"//\\\"b\"); // c \"\nlet d: &'x str = r#\"e\"f\"#; '{' '\\'' /* g */ h";
    let source = Source::new("src/app.rs", text);
    let left: Vec<&str> = source.code.split_whitespace().collect();
    assert_eq!(left.join(" "), "a( ); let d: &'x str = ; h");
    assert_eq!(source.code.len(), text.len());
    assert!(source.text_without_comments().contains("e\"f") && !source.text_without_comments().contains('g'));
}
