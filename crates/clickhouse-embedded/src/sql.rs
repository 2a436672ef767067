//! Scans a statement as far as routing needs: its first word, and whether it is an `INSERT` with data in the request body.
//! The engine parses it, and names its `FORMAT` if there is one.

/// A word outside of strings, quoted identifiers and comments.
pub(crate) struct Word<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Number of enclosing parentheses.
    depth: usize,
    /// End of the token before it.
    previous_end: usize,
}

impl Word<'_> {
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// Returns whether only whitespace and comments separate this word from `previous`.
    pub(crate) fn follows(&self, previous: &Self) -> bool {
        self.previous_end == previous.end
    }
}

/// Iterates over the words of a statement.
pub(crate) struct Words<'a> {
    sql: &'a [u8],
    position: usize,
    depth: usize,
    /// End of the last token that is not whitespace, a comment or a semicolon.
    last_end: usize,
}

/// Returns the words of a statement.
pub(crate) fn words(sql: &[u8]) -> Words<'_> {
    Words {
        sql,
        position: 0,
        depth: 0,
        last_end: 0,
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Words<'_> {
    fn seek(&self, from: usize, needle: &[u8]) -> Option<usize> {
        self.sql
            .get(from..)?
            .windows(needle.len())
            .position(|window| window == needle)
            .map(|at| from + at)
    }

    /// Returns the position after the quoted token at `start`.
    fn after_quoted(&self, start: usize, quote: u8) -> usize {
        let mut position = start + 1;
        while let Some(&byte) = self.sql.get(position) {
            match byte {
                b'\\' => position += 2,
                byte if byte == quote => {
                    if self.sql.get(position + 1) != Some(&quote) {
                        return position + 1;
                    }
                    position += 2;
                }
                _ => position += 1,
            }
        }
        self.sql.len()
    }

    /// Returns the position after the `$tag$…$tag$` string at `start`, if there is one.
    fn after_heredoc(&self, start: usize) -> Option<usize> {
        let tag_end = start
            + 1
            + self
                .sql
                .get(start + 1..)?
                .iter()
                .position(|byte| !is_word_byte(*byte))?;
        if self.sql.get(tag_end) != Some(&b'$') {
            return None;
        }
        let tag = &self.sql[start..=tag_end];
        self.seek(tag_end + 1, tag).map(|at| at + tag.len())
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        while let Some(&byte) = self.sql.get(self.position) {
            let start = self.position;
            let rest = &self.sql[start..];
            if byte.is_ascii_whitespace() || byte == b';' {
                self.position += 1;
                continue;
            }
            if rest.starts_with(b"--") || rest.starts_with(b"# ") || rest.starts_with(b"#!") {
                self.position = self.seek(start, b"\n").map_or(self.sql.len(), |at| at + 1);
                continue;
            }
            if rest.starts_with(b"/*") {
                self.position = self.seek(start + 2, b"*/").map_or(self.sql.len(), |at| at + 2);
                continue;
            }
            self.position = match byte {
                b'\'' | b'"' | b'`' => self.after_quoted(start, byte),
                b'$' => self.after_heredoc(start).unwrap_or(start + 1),
                byte if is_word_byte(byte) => {
                    start
                        + rest
                            .iter()
                            .position(|byte| !is_word_byte(*byte))
                            .unwrap_or(rest.len())
                }
                _ => start + 1,
            };
            let previous_end = std::mem::replace(&mut self.last_end, self.position);
            match byte {
                b'(' => self.depth += 1,
                b')' => self.depth = self.depth.saturating_sub(1),
                byte if is_word_byte(byte) => {
                    let text = &self.sql[start..self.position];
                    return Some(Word {
                        text,
                        start,
                        end: self.position,
                        depth: self.depth,
                        previous_end,
                    });
                }
                _ => {}
            }
        }
        None
    }
}

/// Properties of a statement that decide how its result is sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StatementInfo {
    /// Starts with `SELECT` or `WITH`, so its result can be streamed.
    pub(crate) selects: bool,
    /// Has the word `FORMAT` outside of parentheses, perhaps as a clause: see [`stated_format`].
    pub(crate) mentions_format: bool,
    /// Adds something around the rows that a streamed result would lose: `WITH TOTALS`, or certain settings.
    pub(crate) needs_complete_result: bool,
    /// Writes to a file on the server with `INTO OUTFILE`.
    pub(crate) outfile: bool,
    /// Runs several statements with `PARALLEL WITH`.
    pub(crate) parallel: bool,
    /// Is a `KILL QUERY`, whose result names queries.
    pub(crate) kills: bool,
}

/// Scans a statement. Stops after the first word of an `INSERT`, because megabytes of data may follow.
pub(crate) fn inspect(sql: &[u8]) -> StatementInfo {
    let mut info = StatementInfo::default();
    let mut previous: Option<Word<'_>> = None;
    for word in words(sql) {
        if previous.is_none() {
            if word.is("INSERT") {
                return info;
            }
            info.selects = word.is("SELECT") || word.is("WITH");
        }
        info.mentions_format |= word.depth == 0 && word.is("FORMAT");
        if let Some(previous) = previous.as_ref().filter(|previous| word.follows(previous)) {
            info.needs_complete_result |= previous.is("WITH") && word.is("TOTALS");
            info.outfile |= previous.is("INTO") && word.is("OUTFILE");
            info.parallel |= previous.is("PARALLEL") && word.is("WITH");
            info.kills |= previous.is("KILL") && word.is("QUERY");
        }
        info.needs_complete_result |= word.is("extremes") || word.is("output_format_json_array_of_rows");
        previous = Some(word);
    }
    info
}

/// Returns the format that a statement states, from its text as the engine's `formatQuery` writes it.
///
/// There every clause of the outermost query starts a line, and no string or name spans lines.
pub(crate) fn stated_format(formatted: &str) -> Option<String> {
    let mut clauses = formatted.lines().filter_map(|line| line.strip_prefix("FORMAT "));
    // A name that is also a keyword, such as Null, is quoted.
    clauses.next_back().map(|name| name.trim_matches('`').to_owned())
}

/// Returns whether a text contains only whitespace, comments and semicolons.
pub(crate) fn is_blank(sql: &[u8]) -> bool {
    let mut walk = words(sql);
    walk.next().is_none() && walk.last_end == 0
}

/// An `INSERT` with data in the request body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InsertStatement {
    /// The statement before its `FORMAT` or `VALUES`.
    pub(crate) statement: String,
    /// Format of the data.
    pub(crate) format: String,
}

/// Splits `INSERT INTO t (a, b) FORMAT Name` (or `… VALUES`) if nothing follows.
///
/// Returns `None` for every other statement, including `INSERT … SELECT`.
pub(crate) fn split_insert(sql: &str) -> Option<InsertStatement> {
    let mut walk = words(sql.as_bytes());
    let first = walk.next()?;
    if !first.is("INSERT") {
        return None;
    }
    let (mut before_last, mut last) = (None, first);
    for word in walk.by_ref() {
        if word.depth == 0 && word.is("SELECT") {
            return None;
        }
        before_last = Some(std::mem::replace(&mut last, word));
    }
    if walk.last_end != last.end {
        return None;
    }
    let after_table_keyword = before_last
        .as_ref()
        .is_some_and(|word| (word.is("INTO") || word.is("TABLE")) && last.follows(word));
    if last.is("VALUES") && !after_table_keyword {
        return Some(InsertStatement {
            statement: sql[..last.start].trim_end().to_owned(),
            format: "Values".to_owned(),
        });
    }
    let keyword = before_last.filter(|word| word.depth == 0 && word.is("FORMAT") && last.follows(word))?;
    Some(InsertStatement {
        statement: sql[..keyword.start].trim_end().to_owned(),
        format: sql[last.start..last.end].to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(statement: &str, format: &str) -> Option<InsertStatement> {
        Some(InsertStatement {
            statement: statement.to_owned(),
            format: format.to_owned(),
        })
    }

    #[test]
    fn insert_is_split_at_its_format() {
        assert_eq!(
            split_insert("INSERT INTO `t`(`a`,`b`) FORMAT RowBinaryWithNamesAndTypes"),
            head("INSERT INTO `t`(`a`,`b`)", "RowBinaryWithNamesAndTypes")
        );
        assert_eq!(
            split_insert(" insert into t format CSV ; -- end"),
            head(" insert into t", "CSV")
        );
        assert_eq!(
            split_insert("INSERT INTO t SETTINGS async_insert = 0 FORMAT JSONEachRow"),
            head("INSERT INTO t SETTINGS async_insert = 0", "JSONEachRow")
        );
        assert_eq!(
            split_insert("INSERT INTO t (a) VALUES"),
            head("INSERT INTO t (a)", "Values")
        );
    }

    #[test]
    fn other_statements_are_not_split() {
        for sql in [
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t FORMAT CSV 1,2",
            "INSERT INTO t FORMAT JSONEachRow {\"a\": 1}",
            "INSERT INTO t SELECT 1 FORMAT CSV",
            "INSERT INTO t SELECT 'FORMAT' AS x",
            "INSERT INTO t",
            "INSERT INTO `FORMAT CSV`",
            "INSERT INTO values",
            "INSERT INTO format.t",
            "INSERT INTO t FROM INFILE 'x' FORMAT",
            "SELECT 1 FORMAT CSV",
            "",
        ] {
            assert_eq!(split_insert(sql), None, "{sql}");
        }
    }

    #[test]
    fn column_named_like_a_keyword_is_not_a_keyword() {
        assert_eq!(
            split_insert("INSERT INTO t (select, a) FORMAT TSV"),
            head("INSERT INTO t (select, a)", "TSV")
        );
    }

    #[test]
    fn blank_statements_are_recognized() {
        assert!(is_blank(b"") && is_blank(b" ;\n-- x\n /* y */"));
        assert!(!is_blank(b"1") && !is_blank(b"''") && !is_blank(b"-- x\nSELECT"));
    }

    #[test]
    fn format_is_a_clause_and_no_function_string_or_comment() {
        let mentions = |sql: &str| inspect(sql.as_bytes()).mentions_format;
        assert!(mentions("SELECT 1 FORMAT JSON SETTINGS x = 1;"));
        assert!(!mentions(
            "/* FORMAT A */ SELECT 'FORMAT B', \"FORMAT C\" -- FORMAT D\nFROM t"
        ));
        assert!(!mentions(
            "SELECT $a$ FORMAT CSV $a$, 'it''s \\' FORMAT X', (SELECT 1 FORMAT CSV)"
        ));
        // As the engine writes the statements that follow.
        assert_eq!(
            stated_format("SELECT 1\nFORMAT JSON\nSETTINGS x = 1\n").as_deref(),
            Some("JSON")
        );
        assert_eq!(
            stated_format("SELECT 1\nFORMAT `Null`\n").as_deref(),
            Some("Null")
        );
        assert_eq!(
            stated_format("SELECT format('{}-{}', 'rain', 'snow') AS x\n"),
            None
        );
        assert_eq!(
            stated_format("SELECT\n    'a\\nFORMAT X',\n    format AS x\n"),
            None
        );
    }

    #[test]
    fn inspect_ignores_strings_comments_and_subqueries() {
        assert!(inspect(b"SELECT a, count() FROM t GROUP BY a WITH TOTALS").needs_complete_result);
        assert!(inspect(b"SELECT 1 SETTINGS extremes = 1").needs_complete_result);
        assert!(inspect(b"SELECT 1 INTO OUTFILE '/tmp/x'").outfile);
        assert!(!inspect(b"SELECT 'INTO OUTFILE'").outfile);
        assert!(!inspect(b"SELECT a AS into, outfile FROM t").outfile);
        assert!(!inspect(b"SHOW TABLES").selects);
        assert_eq!(
            inspect(b"INSERT INTO t FORMAT CSV 1 INTO OUTFILE"),
            StatementInfo::default()
        );
        assert_eq!(
            inspect(b"SELECT 'never closed"),
            StatementInfo {
                selects: true,
                ..StatementInfo::default()
            }
        );
    }
}
