//! Which crate may depend on which: arrows point down only.

use super::{Finding, Level};
use cargo_metadata::{DependencyKind, Metadata};
use std::collections::BTreeSet;

/// Each crate and what it may depend on; what these may depend on is allowed too.
const TABLE: &[(&str, &[&str])] = &[
    ("rivermark-types", &[]),
    ("rivermark-config", &["rivermark-types"]),
    ("rivermark-env", &["rivermark-types"]),
    ("rivermark-protocol", &["rivermark-types"]),
    ("rivermark-data", &["rivermark-types"]),
    ("rivermark-storage", &["rivermark-env"]),
    ("rivermark-state", &["rivermark-data", "rivermark-storage"]),
    (
        "rivermark-runtime",
        &["rivermark-protocol", "rivermark-state", "rivermark-config"],
    ),
    (
        "rivermark-net",
        &["rivermark-protocol", "rivermark-data", "rivermark-env"],
    ),
    ("rivermark-connector", &["rivermark-runtime"]),
    ("rivermark-format", &["rivermark-data"]),
    ("rivermark-job", &["rivermark-connector"]),
    ("rivermark-stream", &["rivermark-connector", "rivermark-format"]),
    (CONNECTORS, &["rivermark-connector", "rivermark-format"]),
    (
        "rivermark",
        &[
            "rivermark-stream",
            "rivermark-job",
            "rivermark-files",
            "rivermark-sockets",
        ],
    ),
    ("rivermark-cluster", &["rivermark-job", "rivermark-net"]),
    ("rivermark-cli", &["rivermark", "rivermark-cluster"]),
];

/// The line of the table for every crate under `crates/connectors`.
const CONNECTORS: &str = "connectors/*";

/// Beside the layers: they may depend on all, and nothing on them.
const BESIDE: &[&str] = &["rivermark-sim", "rivermark-testkit", "rivermark-bench", "xtask"];

/// Edges that are allowed only as a feature (an optional dependency), so that the quick start stays small.
const AS_FEATURE: &[(&str, &str)] = &[("rivermark", "rivermark-cluster"), ("rivermark", "rivermark-sim")];

/// One dependency between two crates of the workspace.
#[derive(Clone, Debug)]
struct Edge {
    from: String,
    is_connector: bool,
    to: String,
    optional: bool,
    /// Only for tests and benches: exempt from the table.
    development: bool,
}

pub(super) fn check(metadata: &Metadata) -> Vec<Finding> {
    let packages = metadata.workspace_packages();
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut edges = Vec::new();
    let mut findings = Vec::new();
    for package in &packages {
        let is_connector = package.manifest_path.as_str().contains("/crates/connectors/");
        findings.extend(check_member(&package.name, is_connector));
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| members.contains(d.name.as_str()))
        {
            edges.push(Edge {
                from: package.name.to_string(),
                is_connector,
                to: dependency.name.clone(),
                optional: dependency.optional,
                development: dependency.kind == DependencyKind::Development,
            });
        }
    }
    findings.extend(edges.iter().filter_map(check_edge));
    findings
}

fn check_member(name: &str, is_connector: bool) -> Option<Finding> {
    let known = is_connector || BESIDE.contains(&name) || TABLE.iter().any(|(from, _)| *from == name);
    (!known).then(|| {
        finding(
            Level::Error,
            name,
            "this crate is not in the table of layers".into(),
        )
    })
}

fn check_edge(edge: &Edge) -> Option<Finding> {
    let (from, to) = (edge.from.as_str(), edge.to.as_str());
    let row = if edge.is_connector { CONNECTORS } else { from };
    let feature = AS_FEATURE.contains(&(from, to));
    if edge.development {
        let exempt = format!("depends on {to} in its tests, against the layers");
        return (!allowed(row).contains(to) && !BESIDE.contains(&from))
            .then(|| finding(Level::Note, from, exempt));
    }
    if BESIDE.contains(&from) || allowed(row).contains(to) || (feature && edge.optional) {
        return None;
    }
    let problem = match feature {
        true => format!("may depend on {to} only as a feature: make it optional"),
        false => format!("must not depend on {to}: the table of layers has no such edge"),
    };
    Some(finding(Level::Error, from, problem))
}

fn finding(level: Level, place: &str, problem: String) -> Finding {
    Finding {
        level,
        check: "edges",
        place: place.into(),
        problem,
    }
}

/// What a crate may depend on, directly or by way of what it may depend on.
fn allowed(row: &str) -> BTreeSet<&'static str> {
    let mut all = BTreeSet::new();
    let mut open = direct(row).to_vec();
    while let Some(name) = open.pop() {
        if all.insert(name) {
            // The facade's own connectors are the one row that is named by its crates.
            open.extend(direct(
                if matches!(name, "rivermark-files" | "rivermark-sockets") {
                    CONNECTORS
                } else {
                    name
                },
            ));
        }
    }
    all
}

fn direct(row: &str) -> &'static [&'static str] {
    TABLE
        .iter()
        .find(|(from, _)| *from == row)
        .map_or(&[], |(_, may)| may)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(from: &str, to: &str, change: impl FnOnce(&mut Edge)) -> Option<Level> {
        let is_connector = from == "rivermark-files";
        let mut edge = Edge {
            from: from.into(),
            is_connector,
            to: to.into(),
            optional: false,
            development: false,
        };
        change(&mut edge);
        check_edge(&edge).map(|finding| finding.level)
    }

    #[test]
    fn arrows_point_down_directly_or_through_others() {
        assert_eq!(level("rivermark-runtime", "rivermark-state", |_| ()), None);
        assert_eq!(
            level("rivermark-runtime", "rivermark-env", |_| ()),
            None,
            "by way of state and storage"
        );
        assert_eq!(level("rivermark-files", "rivermark-connector", |_| ()), None);
        assert_eq!(level("rivermark", "rivermark-format", |_| ()), None);
        assert_eq!(level("rivermark-sim", "rivermark-job", |_| ()), None);
    }

    #[test]
    fn arrows_up_or_across_are_refused() {
        for (from, to) in [
            ("rivermark-types", "rivermark-config"),
            ("rivermark-protocol", "rivermark-env"),
            ("rivermark-data", "rivermark-env"),
            ("rivermark-job", "rivermark-stream"),
            ("rivermark-files", "rivermark-job"),
            ("rivermark-runtime", "rivermark-sim"),
            ("rivermark-stream", "rivermark-job"),
        ] {
            assert_eq!(level(from, to, |_| ()), Some(Level::Error), "{from} -> {to}");
        }
    }

    #[test]
    fn tests_are_exempt_but_listed_and_the_facade_has_its_features() {
        let development = |edge: &mut Edge| edge.development = true;
        assert_eq!(
            level("rivermark-runtime", "rivermark-testkit", development),
            Some(Level::Note)
        );
        assert_eq!(level("rivermark-runtime", "rivermark-env", development), None);
        assert_eq!(
            level("rivermark", "rivermark-sim", |edge| edge.optional = true),
            None
        );
        assert_eq!(level("rivermark", "rivermark-sim", |_| ()), Some(Level::Error));
    }

    #[test]
    fn a_crate_outside_the_table_is_found() {
        assert!(check_member("rivermark-utils", false).is_some());
        assert!(check_member("rivermark-kafka", true).is_none());
    }
}
