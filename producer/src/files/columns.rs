//! Which column is what.

use std::str::FromStr;

use precis_schemas::error_code::{ErrorCode, Refusal};

/// What is done with the rows, which says which columns they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Articles are summarized. A reference is optional.
    Summarize,
    /// Summaries are scored against references.
    Score,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The text to summarize.
    Article,
    /// The human summary.
    Reference,
    /// The summary to score.
    Summary,
    /// What identifies a row.
    Id,
}

/// Every role, in the order of [`Columns`].
const ROLES: [Role; 4] = [Role::Article, Role::Reference, Role::Summary, Role::Id];

impl Role {
    /// Names under which files have the column, in any case.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Article => &["article", "text"],
            Self::Reference => &["summ", "reference"],
            Self::Summary => &["summary"],
            Self::Id => &["id"],
        }
    }

    fn is_needed(self, task: Task) -> bool {
        match task {
            Task::Summarize => self == Self::Article,
            Task::Score => matches!(self, Self::Summary | Self::Reference),
        }
    }

    fn is_used(self, task: Task) -> bool {
        match task {
            Task::Summarize => self != Self::Summary,
            Task::Score => self != Self::Article,
        }
    }
}

/// A column that the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnChoice {
    role: Role,
    name: String,
}

impl FromStr for ColumnChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write it as --column article=NAME, where NAME is in the file";
        let (role, name) = text.split_once('=').ok_or(example)?;
        let found = ROLES.into_iter().find(|known| known.names().contains(&role));
        match found {
            Some(role) if !name.is_empty() => Ok(Self {
                role,
                name: name.to_owned(),
            }),
            Some(_) => Err(example.to_owned()),
            None => Err(format!(
                "{role:?} is not article, reference, summary or id; {example}"
            )),
        }
    }
}

/// The positions of the columns in a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Columns([Option<usize>; ROLES.len()]);

impl Columns {
    /// Finds the columns in a header, or among the fields of an object.
    ///
    /// # Errors
    /// If a column is missing or ambiguous.
    pub(crate) fn find<'a>(
        names: impl Iterator<Item = &'a str> + Clone,
        task: Task,
        choices: &[ColumnChoice],
    ) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for (role, place) in ROLES.into_iter().zip(&mut found.0) {
            if role.is_used(task) {
                *place = position(names.clone(), role, choices)?;
            }
            if place.is_none() && role.is_needed(task) {
                return Err(missing(role, names));
            }
        }
        Ok(found)
    }

    /// Returns the position of a column.
    pub(crate) fn get(&self, role: Role) -> Option<usize> {
        let index = ROLES.iter().position(|known| *known == role)?;
        self.0[index]
    }
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn position<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    role: Role,
    choices: &[ColumnChoice],
) -> Result<Option<usize>, Refusal> {
    let chosen = choices.iter().rfind(|choice| choice.role == role);
    let matches = |name: &str| match chosen {
        Some(choice) => choice.name == name,
        None => role.names().iter().any(|known| known.eq_ignore_ascii_case(name)),
    };
    let mut found = names.clone().enumerate().filter(|(_, name)| matches(name.trim()));
    match (found.next(), found.next(), chosen) {
        (Some((first, _)), Some((second, _)), Some(choice)) => Err(invalid(format!(
            "columns {} and {} are both named `{}`; rename one",
            first + 1,
            second + 1,
            choice.name
        ))),
        (Some((first, one)), Some((second, other)), None) => Err(invalid(format!(
            "columns {} (`{one}`) and {} (`{other}`) mean the same; choose one with --column {}={one}",
            first + 1,
            second + 1,
            role.names()[0]
        ))),
        (None, _, Some(choice)) if names.clone().next().is_some() => Err(invalid(format!(
            "there is no column `{}` (--column {}={0}); there is {}",
            choice.name,
            role.names()[0],
            shown(names)
        ))),
        (first, ..) => Ok(first.map(|(index, _)| index)),
    }
}

/// Returns the refusal of a file or object without a column that it needs.
fn missing<'a>(role: Role, names: impl Iterator<Item = &'a str>) -> Refusal {
    let known: Vec<String> = role.names().iter().map(|name| format!("`{name}`")).collect();
    let advice = match role {
        Role::Summary => ". To summarize articles and score the result, use `precis producer batch`",
        _ => "",
    };
    invalid(format!(
        "there is no column {}, but {}; name it with --column {}=NAME{advice}",
        known.join(" or "),
        shown(names),
        role.names()[0],
    ))
}

/// Names columns in an error, as far as they are short.
fn shown<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MAX_CHARS: usize = 200;
    let names: Vec<String> = names.map(|name| format!("`{}`", name.trim())).collect();
    let text = names.join(", ");
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(header: &str, task: Task, choices: &[&str]) -> Result<Columns, String> {
        let choices: Vec<ColumnChoice> = choices.iter().map(|text| text.parse().unwrap()).collect();
        Columns::find(header.split(','), task, &choices).map_err(|refusal| refusal.message)
    }

    #[test]
    fn columns_are_found_by_usual_or_given_names() {
        let columns = find("ID, Article ,summ,title", Task::Summarize, &[]).unwrap();
        let places = [Role::Id, Role::Article, Role::Reference, Role::Summary].map(|role| columns.get(role));
        assert_eq!(places, [Some(0), Some(1), Some(2), None]);
        let columns = find("article,body", Task::Summarize, &["article=body"]).unwrap();
        assert_eq!(columns.get(Role::Article), Some(1));
        let columns = find("gold,summary", Task::Score, &["reference=gold"]).unwrap();
        assert_eq!(
            (columns.get(Role::Summary), columns.get(Role::Reference)),
            (Some(1), Some(0))
        );
    }

    #[test]
    fn a_missing_or_ambiguous_column_is_refused_by_name() {
        for (header, task, choices, parts) in [
            (
                "title,body",
                Task::Summarize,
                &[][..],
                &["`article` or `text`", "`title`, `body`", "--column article=NAME"][..],
            ),
            (
                "text,article",
                Task::Summarize,
                &[],
                &["(`text`)", "(`article`)", "--column article=text"],
            ),
            (
                "article",
                Task::Summarize,
                &["article=body"],
                &["no column `body`", "there is `article`"],
            ),
            (
                "body,body",
                Task::Summarize,
                &["article=body"],
                &["1 and 2", "rename"],
            ),
            ("article,summ", Task::Score, &[], &["`summary`", "producer batch"]),
        ] {
            let message = find(header, task, choices).unwrap_err();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        for bad in ["body", "body=article", "article="] {
            assert!(
                bad.parse::<ColumnChoice>()
                    .unwrap_err()
                    .contains("--column article=NAME")
            );
        }
    }
}
