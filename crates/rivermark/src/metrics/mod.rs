//! A job's metrics for other systems: read once a second, told to whoever scrapes.
//!
//! Layout: [`Scraped`] (what is known at the moment), `prometheus` (its text), `endpoint` (where it is served). The names are
//! `rivermark_job::metrics`' matter. Nothing of this runs unless a reporter is configured.

mod endpoint;
mod prometheus;

use rivermark_config::ReporterConfig;
use rivermark_env::{Env, TaskHandle};
use rivermark_job::JobControl;
use rivermark_job::metrics::{JobLabels, Moment, series};
use rivermark_runtime::metrics::JobSnapshot;
use rivermark_types::{JobName, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Rates are those of the last second or two.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// What a scrape is answered with.
pub(crate) struct Scraped {
    env: Env,
    job: JobControl,
    labels: JobLabels,
    filter: bool,
    /// The snapshots of the last second and of the one before.
    samples: Mutex<[JobSnapshot; 2]>,
}

impl Scraped {
    fn text(&self) -> String {
        let stats = self.job.stats();
        let moment = Moment {
            now: self.env.now(),
            wall: self.env.wall_clock(),
        };
        let later = stats.counters.snapshot(moment.now);
        let earlier = self.samples().0;
        prometheus::text(
            &series(&self.labels, &stats, &earlier, &later, moment),
            self.filter,
        )
    }

    fn samples(&self) -> (JobSnapshot, JobSnapshot) {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let [earlier, later] = &*samples;
        (earlier.clone(), later.clone())
    }

    fn sample(&self) {
        let now = self.job.stats().counters.snapshot(self.env.now());
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::replace(&mut samples[1], now);
        samples[0] = last;
    }
}

/// A reporter at work, until it is dropped.
pub(crate) struct Reporting {
    /// Where it answers.
    pub(crate) address: String,
    tasks: Vec<TaskHandle>,
}

impl Reporting {
    /// Starts to answer for a job.
    pub(crate) async fn start(
        env: &Env,
        reporter: &ReporterConfig,
        name: &JobName,
        job: JobControl,
    ) -> Result<Reporting> {
        let listener = endpoint::listen(env, reporter).await?;
        let address = listener.address();
        let now = job.stats().counters.snapshot(env.now());
        let scraped = Arc::new(Scraped {
            env: env.clone(),
            job,
            labels: JobLabels {
                name: name.clone(),
                host: "localhost".to_owned(),
                worker: "embedded".to_owned(),
            },
            filter: reporter.filter_label_values,
            samples: Mutex::new([now.clone(), now]),
        });
        let sampling = {
            let (env, scraped) = (env.clone(), scraped.clone());
            async move {
                loop {
                    env.sleep(SAMPLE_EVERY).await;
                    scraped.sample();
                }
            }
        };
        let tasks = vec![
            env.spawn_io("metrics samples", sampling),
            env.spawn_io(
                "metrics endpoint",
                endpoint::serve(env.clone(), listener, scraped),
            ),
        ];
        Ok(Reporting { address, tasks })
    }

    /// Ends it, and completes when nothing of it is left.
    pub(crate) async fn stop(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            task.join().await;
        }
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.tasks.iter().for_each(TaskHandle::abort);
    }
}
