//! What a job is started with, and its start.

use crate::claim::{Found, OwnedHead, StartOptions, claim, find};
use crate::cleaner::Cleaner;
use crate::handle::{JobEnd, JobHandle, Request};
use crate::history::History;
use crate::master::Master;
use crate::restore::{adopt_max_parallelism, restore};
use crate::stats::JobStats;
use crate::storage::JobStorage;
use rivermark_env::Env;
use rivermark_protocol::coordinator::{CheckpointCoordinator, Completed, CoordinatorConfig};
use rivermark_protocol::graph::NodeRole;
use rivermark_protocol::plan::Plan;
use rivermark_protocol::restart::{JobLifecycle, RestartStrategy};
use rivermark_runtime::Program;
use rivermark_runtime::deploy::Limits;
use rivermark_runtime::metrics::JobCounters;
use rivermark_runtime::seams::Seams;
use rivermark_state::{LocalCopies, SnapshotWriter, WriterConfig};
use rivermark_types::{Attempt, Failure, JobName, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// A job to start.
pub struct JobSpec {
    /// Its name: what its state belongs to.
    pub name: JobName,
    /// What runs.
    pub program: Program,
    /// Whether neighbouring operators share a task.
    pub chaining: bool,
    /// Where its state is kept.
    pub storage: JobStorage,
    /// Where it starts from.
    pub options: StartOptions,
    /// When checkpoints are taken.
    pub checkpoints: CoordinatorConfig,
    /// What follows a failure.
    pub restarts: RestartStrategy,
    /// Limits and pace.
    pub limits: Limits,
    /// How snapshots are packed.
    pub writer: WriterConfig,
    /// Wrappers, in tests.
    pub seams: Arc<dyn Seams>,
}

/// Starts a job: takes a generation, reads the checkpoint, plans, and lets the master go. What is wrong with the graph,
/// the storage or the checkpoint is told here, before anything runs.
pub async fn start(env: &Env, mut spec: JobSpec) -> Result<JobHandle> {
    spec.storage = spec.storage.timely(env);
    // Before the claim, so that a broken job does not fence a healthy run.
    if spec.program.graph.unaligned.is_some() && spec.checkpoints.max_concurrent > 1 {
        return Err(Failure::invalid(format!(
            "unaligned checkpoints come one at a time, but {} may be pending: set \
             execution.checkpointing.max-concurrent-checkpoints to 1, or execution.checkpointing.unaligned.enabled to false",
            spec.checkpoints.max_concurrent
        )));
    }
    Plan::new(&spec.program.graph, spec.chaining, None)?;
    let sinks = spec
        .program
        .graph
        .nodes
        .iter()
        .any(|node| node.role == NodeRole::Sink && node.exactly_once);
    let mut found = find(env, &spec.storage, &spec.name, &spec.options, sinks).await?;
    if found.finished {
        return finish_again(env, &spec, found).await;
    }
    let mut manifests = BTreeMap::new();
    if let Some(manifest) = found.from.take() {
        adopt_max_parallelism(&mut spec.program.graph, &manifest)?;
        manifests.insert(manifest.checkpoint, manifest);
    }
    let plan = Arc::new(Plan::new(&spec.program.graph, spec.chaining, None)?);
    for manifest in manifests.values() {
        restore(
            &spec.program.graph,
            &plan,
            manifest,
            spec.options.ignore_unclaimed,
        )?;
    }
    let owned = claim(env, &spec.storage, found).await?;
    let counters = Arc::new(JobCounters::new(&spec.program.graph, &plan));
    let lineage = owned.head.lineage_start;
    let completed = owned.head.checkpoints.iter().filter(|c| c.id > lineage);
    let completed = completed
        .map(|c| Completed {
            checkpoint: c.id,
            kind: c.kind,
        })
        .collect();
    let start_from = manifests.keys().next().copied();

    let (reports_sender, reports) = mpsc::unbounded_channel();
    let (snapshots, writer) = SnapshotWriter::spawn(
        env,
        spec.storage.blob.clone(),
        writer_config(env, &spec.writer, &owned),
        reports_sender,
    );
    let (requests_sender, requests) = mpsc::unbounded_channel::<Request>();
    let first = JobStats {
        state: "starting",
        counters: counters.clone(),
        local_copies: snapshots.local_copies().cloned(),
        ..JobStats::default()
    };
    let (stats_sender, stats) = watch::channel(first);
    let (end_sender, end) = oneshot::channel();
    let master = Master {
        env: env.clone(),
        program: Arc::new(spec.program.clone()),
        plan,
        counters,
        owned,
        start_from,
        decided_here: None,
        coordinator: CheckpointCoordinator::new(spec.checkpoints.clone(), completed),
        lifecycle: JobLifecycle::new(spec.restarts.clone()),
        row_errors: BTreeMap::new(),
        snapshots,
        writer: Some(writer),
        cleaner: Cleaner::start(env, &spec.storage),
        history: History::start(env, spec.storage.history.clone()),
        recovering: None,
        stats: stats_sender,
        reports,
        requests,
        internal: mpsc::unbounded_channel(),
        pending: BTreeMap::new(),
        proposal: None,
        manifests,
        waiting: BTreeMap::new(),
        early: vec![],
        last_request: 0,
        last_attempt: Attempt(0),
        stop: false,
        cancel: false,
        final_retry_at: None,
        fatal: None,
        spec,
    };
    let master = env.spawn_io("job-master", async move {
        let _ = end_sender.send(master.run().await);
    });
    Ok(JobHandle {
        requests: requests_sender,
        stats,
        end,
        master,
    })
}

/// The writer's bounds; local copies go to a folder of this run alone, beside those of the job's other runs.
fn writer_config(env: &Env, config: &WriterConfig, owned: &OwnedHead) -> WriterConfig {
    let (seed, generation) = (owned.head.seed, owned.head.generation);
    let own = |dir: &PathBuf| {
        dir.join(format!("rivermark-copies-{seed:016x}"))
            .join(format!("g{generation}-{:016x}", env.random_u64()))
    };
    WriterConfig {
        copy_dir: config.copy_dir.as_ref().map(own),
        ..config.clone()
    }
}

/// A job that has nothing left to do, but perhaps something to clear up: the run that finished it may have been killed
/// before it did.
async fn finish_again(env: &Env, spec: &JobSpec, found: Found) -> Result<JobHandle> {
    let storage = &spec.storage;
    tracing::info!("the job has finished before: there is nothing to resume");
    let owned = claim(env, storage, found).await?;
    let mut cleaner = Cleaner::start(env, storage);
    cleaner.sweep(&owned.head, &BTreeMap::new()).await;
    cleaner.finish().await;
    if let Some(dir) = writer_config(env, &spec.writer, &owned).copy_dir {
        LocalCopies::sweep(env, &dir).await;
    }
    let (requests, _) = mpsc::unbounded_channel();
    let (_, stats) = watch::channel(JobStats {
        state: "finished",
        ..JobStats::default()
    });
    let (end_sender, end) = oneshot::channel();
    let _ = end_sender.send(Ok(JobEnd::Finished));
    Ok(JobHandle {
        requests,
        stats,
        end,
        master: env.spawn_io("job-master", std::future::ready(())),
    })
}
