//! The statements that remove the sample history.

use precis_schemas::rest_operations::SampleHistory;

use super::history::MODELS;

/// A statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) statement: String,
    /// Whether the removal goes on after a failure.
    pub(super) may_fail: bool,
}

fn quoted<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| format!("'{text}'")).collect();
    quoted.join(", ")
}

/// Returns the statements in order.
///
/// A refresh that runs meanwhile may have read rows that are gone, and appends their rollups afterwards. So each level
/// waits for the refresh of its view before its rollups are removed.
pub(super) fn steps(pairs: &[String]) -> Vec<Step> {
    let tenant = SampleHistory::TENANT;
    let run = |statement: String| Step {
        statement,
        may_fail: false,
    };
    // Marks of minutes without rows would be computed again and again.
    let mut steps = vec![
        run(format!(
            "DELETE FROM dirty_minutes WHERE minute IN
                (SELECT toStartOfMinute(finished_at) FROM prediction_versions WHERE tenant = '{tenant}')
            AND minute NOT IN
                (SELECT toStartOfMinute(finished_at) FROM prediction_versions WHERE tenant != '{tenant}'
                    AND finished_at >= (SELECT min(finished_at) FROM prediction_versions WHERE tenant = '{tenant}'))"
        )),
        run(format!("DELETE FROM prediction_versions WHERE tenant = '{tenant}'")),
    ];
    for level in ["minutes", "hours", "days"] {
        steps.push(Step {
            statement: format!("SYSTEM WAIT VIEW prediction_{level}_view"),
            may_fail: true,
        });
        steps.push(run(format!(
            "DELETE FROM prediction_{level} WHERE tenant = '{tenant}'"
        )));
    }
    for table in ["drift_days", "drift_baselines"] {
        steps.push(run(format!(
            "DELETE FROM {table} WHERE model IN ({})",
            quoted(MODELS)
        )));
    }
    let pairs = quoted(pairs.iter().map(String::as_str));
    steps.push(run(format!("DELETE FROM samples WHERE sample_id IN ({pairs})")));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rollup_is_removed_after_the_refresh_of_its_view() {
        let steps = steps(&["one".to_owned()]);
        let at = |wanted: &str| {
            let found = steps.iter().position(|step| step.statement.starts_with(wanted));
            found.unwrap_or_else(|| panic!("no statement {wanted}"))
        };
        assert!(at("DELETE FROM dirty_minutes") < at("DELETE FROM prediction_versions"));
        assert!(at("DELETE FROM prediction_versions") < at("SYSTEM WAIT VIEW prediction_minutes_view"));
        for (wait, delete) in [
            ("minutes_view", "minutes"),
            ("hours_view", "hours"),
            ("days_view", "days"),
        ] {
            let wait = at(&format!("SYSTEM WAIT VIEW prediction_{wait}"));
            assert!(wait < at(&format!("DELETE FROM prediction_{delete} ")));
        }
    }
}
