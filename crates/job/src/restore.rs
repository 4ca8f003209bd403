//! From a manifest to what each subtask of the new attempt gets back: operators found by uid, lists dealt out again,
//! watermarks, and the splits that go back to their trackers. Pure but for what the manifest already holds.

use crate::in_flight::deal_in_flight;
use rivermark_protocol::graph::{Graph, NodeRole};
use rivermark_protocol::plan::Plan;
use rivermark_runtime::deploy::Share;
use rivermark_runtime::source::SPLITS;
use rivermark_runtime::{Lists, SourceAssignment, is_union_list};
use rivermark_state::{Manifest, OperatorEntry};
use rivermark_types::{Failure, NodeId, Result, Timestamp, Uid};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a manifest gives back, apart from keyed rows.
#[derive(Default)]
pub(crate) struct Restored {
    /// By operator and subtask.
    pub(crate) shares: BTreeMap<NodeId, Vec<Share>>,
    /// By source: its enumerator's side, and the splits that its readers held.
    pub(crate) sources: BTreeMap<NodeId, RestoredSource>,
}

pub(crate) struct RestoredSource {
    pub(crate) coordinator: Value,
    pub(crate) held: Vec<SourceAssignment>,
}

/// Fits the graph to the checkpoint before it is planned: the number of key groups is the state's, not the program's.
pub(crate) fn adopt_max_parallelism(graph: &mut Graph, manifest: &Manifest) -> Result<()> {
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let Some(entry) = node.uid.as_ref().and_then(|uid| entry_of(manifest, uid)) else {
            continue;
        };
        if !node.keyed {
            continue;
        }
        let stored = entry.max_parallelism;
        let set = node.max_parallelism.or(graph.max_parallelism);
        if set.is_some_and(|set| set != stored.get()) {
            return Err(Failure::invalid(format!(
                "operator {:?} has {} key groups in checkpoint {}, but the program sets a maximum parallelism of {}: set \
                 {}, or leave it unset",
                node.name,
                stored.get(),
                manifest.checkpoint,
                set.unwrap_or_default(),
                stored.get()
            )));
        }
        if node.parallelism > stored.get() {
            return Err(Failure::invalid(format!(
                "operator {:?} has {} key groups in checkpoint {}: its parallelism of {} cannot be more",
                node.name,
                stored.get(),
                manifest.checkpoint,
                node.parallelism
            )));
        }
        graph.nodes[at].max_parallelism = Some(stored.get());
    }
    Ok(())
}

fn entry_of<'m>(manifest: &'m Manifest, uid: &Uid) -> Option<&'m OperatorEntry> {
    manifest.operators.iter().find(|entry| entry.uid == *uid)
}

/// Deals out what the manifest holds; state that no operator claims is an error unless the user drops it.
pub(crate) fn restore(
    graph: &Graph,
    plan: &Plan,
    manifest: &Manifest,
    ignore_unclaimed: bool,
) -> Result<Restored> {
    refuse_unclaimed(graph, manifest, ignore_unclaimed)?;
    let mut restored = Restored::default();
    for vertex in &plan.vertices {
        for id in &vertex.nodes {
            let Some(node) = graph.node(*id) else { continue };
            let Some(entry) = entry_of(manifest, &graph.stable_name(*id)) else {
                continue;
            };
            let mut shares = deal(entry, vertex.parallelism);
            deal_in_flight(graph, node, &manifest.operators, entry, &mut shares)?;
            if node.role == NodeRole::Source {
                restored
                    .sources
                    .insert(*id, source(entry, manifest, &mut shares)?);
            }
            restored.shares.insert(*id, shares);
        }
    }
    Ok(restored)
}

fn refuse_unclaimed(graph: &Graph, manifest: &Manifest, ignore: bool) -> Result<()> {
    let claimed = |uid: &Uid| graph.nodes.iter().any(|node| graph.stable_name(node.id) == *uid);
    let unclaimed: Vec<&str> = manifest
        .operators
        .iter()
        .filter(|entry| entry.has_state() && !claimed(&entry.uid))
        .map(|entry| entry.uid.as_str())
        .collect();
    if unclaimed.is_empty() || ignore {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "there is no operator for the state of {} in checkpoint {}: give an operator that uid again, or drop the state \
         with --set execution.state-recovery.ignore-unclaimed-state=true",
        unclaimed.join(", "),
        manifest.checkpoint
    )))
}

/// Flink's redistribution of list state. Union lists: all entries of all subtasks to each. The others: at the same
/// parallelism each subtask gets its own back; else all entries in order, in consecutive runs, the first ones a longer one.
fn deal(entry: &OperatorEntry, parallelism: u32) -> Vec<Share> {
    let mut shares = divide(entry, parallelism);
    let mut unions = Lists::new();
    let mut subtasks: Vec<_> = entry.subtasks.iter().collect();
    subtasks.sort_by_key(|subtask| subtask.index);
    for (name, entries) in subtasks.iter().flat_map(|subtask| &subtask.lists) {
        if is_union_list(name) {
            unions.entry(name.clone()).or_default().extend(entries.clone());
        }
    }
    for share in &mut shares {
        share.lists.extend(unions.clone());
    }
    shares
}

fn divide(entry: &OperatorEntry, parallelism: u32) -> Vec<Share> {
    let mut subtasks: Vec<_> = entry.subtasks.iter().collect();
    subtasks.sort_by_key(|subtask| subtask.index);
    // Splits go to whichever reader asks, at any parallelism: no subtask may start above the lowest. One that began at the
    // end of time would never tell those behind it of the end of what it is given now.
    let watermark = subtasks
        .iter()
        .map(|subtask| subtask.watermark)
        .min()
        .unwrap_or(Timestamp::MIN);
    if entry.parallelism == parallelism && subtasks.len() == parallelism as usize {
        let own = |s: &&rivermark_state::SubtaskEntry| Share {
            lists: s.lists.clone(),
            watermark,
            in_flight: vec![],
        };
        return subtasks.iter().map(own).collect();
    }
    let mut shares = vec![
        Share {
            lists: Lists::new(),
            watermark,
            in_flight: vec![],
        };
        parallelism as usize
    ];
    let mut all: BTreeMap<&String, Vec<&Value>> = BTreeMap::new();
    for (name, entries) in subtasks.iter().flat_map(|subtask| &subtask.lists) {
        all.entry(name).or_default().extend(entries);
    }
    for (name, entries) in all {
        let (run, longer) = (entries.len() / shares.len(), entries.len() % shares.len());
        let mut entries = entries.into_iter();
        for (index, share) in shares.iter_mut().enumerate() {
            let take = run + usize::from(index < longer);
            share
                .lists
                .insert(name.clone(), entries.by_ref().take(take).cloned().collect());
        }
    }
    shares
}

/// The splits that readers held go back to the tracker, whatever the parallelism.
fn source(entry: &OperatorEntry, manifest: &Manifest, shares: &mut [Share]) -> Result<RestoredSource> {
    let mut held = Vec::new();
    for share in shares.iter_mut() {
        for value in share.lists.remove(SPLITS).unwrap_or_default() {
            let split = serde_json::from_value(value).map_err(|error| {
                Failure::invalid(format!(
                    "checkpoint {} has a split of source {} that cannot be read: {error}",
                    manifest.checkpoint, entry.uid
                ))
            })?;
            held.push(split);
        }
    }
    let coordinator = manifest.sources.iter().find(|source| source.uid == entry.uid);
    let coordinator = coordinator.map_or(Value::Null, |source| source.enumerator.clone());
    Ok(RestoredSource { coordinator, held })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivermark_state::SubtaskEntry;
    use rivermark_types::MaxParallelism;
    use serde_json::json;

    /// Three subtasks, listed out of order: 0 has `a`, 1 has `b` and `c`, 2 has nothing.
    fn entry() -> OperatorEntry {
        let subtask = |index, split: Vec<Value>, union: Vec<Value>| SubtaskEntry {
            index,
            watermark: Timestamp(i64::from(index)),
            lists: Lists::from([("split".to_owned(), split), ("union:all".to_owned(), union)]),
            in_flight: vec![],
        };
        OperatorEntry {
            uid: Uid::from("op"),
            name: "op".to_owned(),
            max_parallelism: MaxParallelism::default_for(3),
            parallelism: 3,
            keyed: false,
            subtasks: vec![
                subtask(2, vec![], vec![json!(3)]),
                subtask(0, vec![json!("a")], vec![json!(1)]),
                subtask(1, vec![json!("b"), json!("c")], vec![json!(2)]),
            ],
        }
    }

    fn lists(parallelism: u32, name: &str) -> Vec<Vec<Value>> {
        let of = |share: Share| share.lists.get(name).cloned().unwrap_or_default();
        deal(&entry(), parallelism).into_iter().map(of).collect()
    }

    #[test]
    fn split_lists_are_divided_and_each_subtask_gets_its_own_back() {
        assert_eq!(
            lists(3, "split"),
            [vec![json!("a")], vec![json!("b"), json!("c")], vec![]]
        );
        assert_eq!(
            lists(2, "split"),
            [vec![json!("a"), json!("b")], vec![json!("c")]]
        );
        assert_eq!(lists(1, "split"), [[json!("a"), json!("b"), json!("c")]]);
        assert_eq!(lists(4, "split")[3], Vec::<Value>::new());
    }

    #[test]
    fn every_subtask_goes_on_from_the_lowest_watermark_of_all() {
        for parallelism in 1..6 {
            let watermarks: Vec<Timestamp> = deal(&entry(), parallelism)
                .iter()
                .map(|share| share.watermark)
                .collect();
            assert_eq!(
                watermarks,
                vec![Timestamp(0); parallelism as usize],
                "{parallelism}"
            );
        }
    }

    #[test]
    fn union_lists_go_to_every_subtask_whole_in_the_order_of_the_old_ones() {
        for parallelism in 1..6 {
            let whole = vec![vec![json!(1), json!(2), json!(3)]; parallelism as usize];
            assert_eq!(lists(parallelism, "union:all"), whole, "{parallelism}");
        }
    }
}
