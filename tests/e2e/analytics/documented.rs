//! The page about the table `predictions`: its columns are those of the table, and its statements run.

use precis_tests::Product;

const PAGE: &str = include_str!("../../../docs/reference/predictions.md");

/// Returns the text between two markers, for each pair of them.
fn blocks<'a>(page: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    page.split(open)
        .skip(1)
        .filter_map(|rest| rest.split_once(close))
        .map(|(block, _)| block)
        .collect()
}

/// Asserts that the page lists each column with its type.
pub(super) async fn columns_are_documented(product: &Product) {
    let documented: Vec<(String, String)> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let (name, rest) = line.split_once("` | ").unwrap();
            let (kind, meaning) = rest.split_once(" | ").unwrap();
            assert!(meaning.len() > 5, "{name} has no description");
            (name.to_owned(), kind.to_owned())
        })
        .collect();
    let sql = "SELECT name, type FROM system.columns WHERE database = 'precis' AND table = 'predictions'
        ORDER BY position";
    let columns = product.query(sql).await;
    let columns: Vec<(String, String)> = columns
        .iter()
        .map(|row| ["name", "type"].map(|column| row[column].as_str().unwrap().to_owned()))
        .map(|[name, kind]| (name, kind))
        .collect();
    assert_eq!(documented, columns);
}

/// Asserts that each of the page's ten statements returns rows.
pub(super) async fn statements_run(product: &Product) {
    let statements = blocks(PAGE, "```sql\n", "```");
    assert_eq!(statements.len(), 10);
    for sql in statements {
        let rows = product.query(sql).await;
        assert!(!rows.is_empty(), "no rows: {sql}");
    }
}
