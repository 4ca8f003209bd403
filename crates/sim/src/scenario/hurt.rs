//! Operators that fail, panic or dawdle: wrapped around those of a finished program, so that any call of any operator may
//! be hit. How often is planned over the whole run, through all attempts and processes.

use super::book::Book;
use super::planted::Plant;
use crate::Draw;
use rivermark_data::Activity;
use rivermark_env::Env;
use rivermark_runtime::{
    Cx, Flow, Lists, NodeBody, OpenCx, Operator, OperatorEvent, OperatorFactory, Program, RowCursor,
    SlotWaker, SourceDriver, SourceEnumerator, SourceFactory, SourcePoll,
};
use rivermark_types::{Barrier, CheckpointId, ErrorKind, Failure, InputId, Millis, Result, Timestamp, Uid};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The words by which a planned failure is known.
pub(crate) const PLANNED: &str = "a planned failure";

/// What happens to a call.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Panic,
    Fail(ErrorKind),
    Dawdle(Duration),
}

/// What a slow operator does with each slice of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crawl {
    /// Keeps it waiting for so long, while its slot goes on with other tasks.
    Waits(Duration),
    /// Works for so long. On real threads only: in a simulation no time passes by working.
    Works(Duration),
}

/// Lets a call of any operator fail once it was lit.
struct Fuse(AtomicI64);

/// Not lit: no run has so many calls.
const UNLIT: i64 = i64::MAX;

impl Default for Fuse {
    fn default() -> Fuse {
        Fuse(AtomicI64::new(UNLIT))
    }
}

impl Fuse {
    /// Whether this call is the one.
    fn burns_down(&self) -> bool {
        if self.0.load(Ordering::Relaxed) == UNLIT {
            return false;
        }
        let is_it = self.0.fetch_sub(1, Ordering::Relaxed) == 0;
        if is_it {
            self.0.store(UNLIT, Ordering::Relaxed);
        }
        is_it
    }
}

/// The blows of one operator, by the number of the call that they hit.
struct Blows {
    calls: AtomicU64,
    due: Mutex<BTreeMap<u64, Blow>>,
    /// How many more times it keeps its rows waiting, and for how long each time. Barriers that overtake rows do not wait.
    crawls: AtomicU64,
    crawl: Crawl,
    fuse: Arc<Fuse>,
    book: Arc<Book>,
    plant: Option<Arc<Plant>>,
}

impl Blows {
    fn next(&self) -> Option<Blow> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        self.due
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&call)
    }

    /// What rows have to bear now.
    fn crawl(&self) -> Option<Crawl> {
        let left = self.crawls.load(Ordering::Relaxed).checked_sub(1)?;
        self.crawls.store(left, Ordering::Relaxed);
        Some(self.crawl)
    }

    /// The blow to this call; a wait is left to the caller.
    fn strike(&self) -> Result<Option<Duration>> {
        if self.fuse.burns_down() {
            self.book.fault("operator failed");
            return Err(Failure::new(ErrorKind::Retry, PLANNED));
        }
        match self.next() {
            None => Ok(None),
            Some(Blow::Panic) => {
                self.book.fault("operator panicked");
                std::panic::panic_any(PLANNED);
            }
            Some(Blow::Fail(kind)) => {
                self.book.fault("operator failed");
                Err(Failure::new(kind, PLANNED))
            }
            Some(Blow::Dawdle(wait)) => {
                self.book.fault("operator slow");
                Ok(Some(wait))
            }
        }
    }
}

/// All blows of a run.
#[derive(Clone)]
pub(crate) struct Hurts {
    nodes: Vec<Arc<Blows>>,
    /// Which operators may be slow, drawn before it is known how many there are; `None`: as their blows say.
    slow: Option<[u64; 2]>,
    fuse: Arc<Fuse>,
}

/// Enough to last until the last strike.
const FOR_LONG: u64 = 100_000;

/// The most operators a scenario has.
const NODES: usize = 10;

impl Hurts {
    /// Draws the blows of a run. A planted bug is shown what operators prepare. With `crawl` one operator is slow for long, so
    /// that barriers find something to overtake.
    pub(crate) fn draw(
        draw: &mut Draw,
        crawl: Option<&mut Draw>,
        book: &Arc<Book>,
        plant: Option<Arc<Plant>>,
    ) -> Hurts {
        let mut nodes = vec![BTreeMap::new(); NODES];
        for _ in 0..draw.below(3) {
            let blow = match draw.below(4) {
                0 => Blow::Panic,
                1 => Blow::Fail(ErrorKind::Data),
                2 => Blow::Fail(ErrorKind::Retry),
                _ => Blow::Fail(ErrorKind::External),
            };
            hit(&mut nodes, draw, blow);
        }
        for _ in 0..draw.below(4) {
            let wait = draw.time(Duration::from_millis(1), Duration::from_millis(150));
            hit(&mut nodes, draw, Blow::Dawdle(wait));
        }
        let fuse = Arc::<Fuse>::default();
        let crawl = crawl.map(|draw| {
            let wait = draw.time(Duration::from_millis(2), Duration::from_millis(30));
            (1 + draw.index(3), draw.between(20, 120), wait)
        });
        let blows = |(node, due)| {
            let crawl = crawl.filter(|(crawling, ..)| *crawling == node);
            let (_, crawls, wait) = crawl.unwrap_or_default();
            Arc::new(Blows {
                calls: AtomicU64::new(0),
                due: Mutex::new(due),
                crawls: AtomicU64::new(crawls),
                crawl: Crawl::Waits(wait),
                fuse: fuse.clone(),
                book: book.clone(),
                plant: plant.clone(),
            })
        };
        Hurts {
            nodes: nodes.into_iter().enumerate().map(blows).collect(),
            slow: None,
            fuse,
        }
    }

    /// No blows but those of strikes.
    pub(crate) fn none(book: &Arc<Book>, plant: Option<Arc<Plant>>) -> Hurts {
        let fuse = Arc::<Fuse>::default();
        let blows = |_| {
            Arc::new(Blows {
                calls: AtomicU64::new(0),
                due: Mutex::default(),
                crawls: AtomicU64::new(0),
                crawl: Crawl::Waits(Duration::ZERO),
                fuse: fuse.clone(),
                book: book.clone(),
                plant: plant.clone(),
            })
        };
        Hurts {
            nodes: (0..NODES).map(blows).collect(),
            slow: None,
            fuse,
        }
    }

    /// No blows, but operators that are slow with every slice of rows, until they are relieved: one or two of those that have
    /// a queue before them.
    pub(crate) fn press(draw: &mut Draw, crawl: Crawl, book: &Arc<Book>, plant: Option<Arc<Plant>>) -> Hurts {
        let slow = [draw.bits(), draw.bits()];
        let fuse = Arc::<Fuse>::default();
        let blows = || Blows {
            calls: AtomicU64::new(0),
            due: Mutex::default(),
            crawls: AtomicU64::new(FOR_LONG),
            crawl,
            fuse: fuse.clone(),
            book: book.clone(),
            plant: plant.clone(),
        };
        Hurts {
            nodes: (0..2 * NODES).map(|_| Arc::new(blows())).collect(),
            slow: Some(slow),
            fuse,
        }
    }

    /// The slow operators are slow so many more times only.
    pub(crate) fn relieve(&self, left: u64) {
        for blows in &self.nodes {
            let crawls = blows.crawls.load(Ordering::Relaxed);
            blows.crawls.store(crawls.min(left), Ordering::Relaxed);
        }
    }

    /// A call of an operator fails: the one after so many more of any.
    pub(crate) fn light_fuse(&self, calls: u64) {
        self.fuse.0.store(calls as i64, Ordering::Relaxed);
    }

    /// Rises while operators are called or keep rows waiting.
    pub(crate) fn progress(&self) -> u64 {
        let of = |blows: &Arc<Blows>| {
            let (calls, crawls) = (&blows.calls, &blows.crawls);
            calls.load(Ordering::Relaxed) + FOR_LONG.saturating_sub(crawls.load(Ordering::Relaxed))
        };
        self.nodes.iter().map(of).sum()
    }

    /// How often each operator was called, in the order they are written.
    pub(crate) fn calls(&self) -> Vec<u64> {
        let calls = self.nodes.iter().map(|blows| blows.calls.load(Ordering::Relaxed));
        calls.collect()
    }

    /// Wraps the operators of a program.
    pub(crate) fn wrap(&self, program: &mut Program) {
        let slow = self.slow.map(|drawn| {
            let queued = behind_queues(program);
            drawn.map(|drawn| queued.get(drawn as usize % queued.len().max(1)).copied())
        });
        for (at, (body, blows)) in program.nodes.iter_mut().zip(&self.nodes).enumerate() {
            *body = match body.clone() {
                NodeBody::Operator(inner) => NodeBody::Operator(Arc::new(HurtFactory {
                    inner,
                    blows: blows.clone(),
                    may_crawl: slow.is_none_or(|slow| slow.contains(&Some(at))),
                })),
                NodeBody::Source(inner) => NodeBody::Source(Arc::new(HurtSource {
                    inner,
                    blows: blows.clone(),
                })),
            };
        }
    }
}

fn hit(nodes: &mut [BTreeMap<u64, Blow>], draw: &mut Draw, blow: Blow) {
    // Most programs have few operators, and those with few rows a call have few calls.
    let node = draw.index(5);
    let limit = [8, 60, 400][draw.index(3)];
    nodes[node].insert(draw.below(limit), blow);
}

/// The operators that are not just behind a source, in whose task they may be.
fn behind_queues(program: &Program) -> Vec<usize> {
    let graph = &program.graph;
    let is_source = |at: usize| matches!(program.nodes.get(at), Some(NodeBody::Source(_)));
    let is_queued = |at: &usize| {
        let mut before = graph.edges.iter().filter(|edge| edge.to.0 as usize == *at);
        !is_source(*at) && !before.any(|edge| is_source(edge.from.0 as usize))
    };
    (0..program.nodes.len()).filter(is_queued).collect()
}

struct HurtFactory {
    inner: Arc<dyn OperatorFactory>,
    blows: Arc<Blows>,
    may_crawl: bool,
}

impl OperatorFactory for HurtFactory {
    fn create(&self) -> Result<Box<dyn Operator>> {
        Ok(Box::new(HurtOperator {
            inner: self.inner.create()?,
            blows: self.blows.clone(),
            may_crawl: self.may_crawl,
            bell: None,
            uid: None,
            asleep_until: None,
            crawls_until: None,
        }))
    }
}

/// What wakes an operator that dawdles.
struct Bell {
    env: Env,
    waker: SlotWaker,
}

struct HurtOperator {
    inner: Box<dyn Operator>,
    blows: Arc<Blows>,
    may_crawl: bool,
    bell: Option<Bell>,
    uid: Option<Uid>,
    asleep_until: Option<Millis>,
    /// Until when its next rows wait.
    crawls_until: Option<Millis>,
}

impl HurtOperator {
    /// Sleeps for a while.
    fn sleep(&mut self, wait: Duration) {
        let Some(bell) = &self.bell else { return };
        let (env, waker) = (bell.env.clone(), bell.waker.clone());
        bell.env.spawn_io("dawdle", async move {
            env.sleep(wait + Duration::from_millis(1)).await;
            waker.wake();
        });
    }

    /// Takes so long.
    fn work(&self, long: Duration) {
        let Some(Bell { env, .. }) = &self.bell else {
            return;
        };
        let start = env.cost_ns();
        while u128::from(env.cost_ns().saturating_sub(start)) < long.as_nanos() {
            std::hint::spin_loop();
        }
    }

    /// Whether rows have to wait; nothing else does.
    fn must_crawl(&mut self) -> bool {
        let Some(now) = self.bell.as_ref().map(|bell| bell.env.now()) else {
            return false;
        };
        if let Some(until) = self.crawls_until {
            if now >= until {
                self.crawls_until = None;
            }
            return now < until;
        }
        match self.blows.crawl().filter(|_| self.may_crawl) {
            None => false,
            Some(Crawl::Waits(wait)) => {
                self.crawls_until = Some(now.after(wait));
                self.sleep(wait);
                true
            }
            Some(Crawl::Works(long)) => {
                self.work(long);
                false
            }
        }
    }

    /// Whether the call has to wait.
    fn must_wait(&mut self) -> Result<bool> {
        let Some(bell) = &self.bell else { return Ok(false) };
        if let Some(until) = self.asleep_until {
            let asleep = bell.env.now() < until;
            if !asleep {
                self.asleep_until = None;
            }
            return Ok(asleep);
        }
        let Some(wait) = self.blows.strike()? else {
            return Ok(false);
        };
        self.asleep_until = Some(bell.env.now().after(wait));
        self.sleep(wait);
        Ok(true)
    }

    /// A blow where nothing can wait.
    fn blow(&self) -> Result<()> {
        self.blows.strike().map(drop)
    }
}

impl Operator for HurtOperator {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.bell = Some(Bell {
            env: cx.env().clone(),
            waker: cx.waker(),
        });
        self.uid = cx.info().uid.clone();
        self.blow()?;
        self.inner.open(cx)
    }

    fn on_batch(&mut self, input: InputId, rows: &mut RowCursor<'_>, cx: &mut Cx<'_>) -> Result<Flow> {
        if self.must_crawl() || self.must_wait()? {
            return Ok(Flow::Wait);
        }
        self.inner.on_batch(input, rows, cx)
    }

    fn on_watermark(&mut self, watermark: Timestamp, cx: &mut Cx<'_>) -> Result<Flow> {
        if self.must_wait()? {
            return Ok(Flow::Wait);
        }
        self.inner.on_watermark(watermark, cx)
    }

    fn on_status(&mut self, status: Activity, cx: &mut Cx<'_>) -> Result<Flow> {
        if self.must_wait()? {
            return Ok(Flow::Wait);
        }
        self.inner.on_status(status, cx)
    }

    fn holds_marks(&self) -> bool {
        self.inner.holds_marks()
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.inner.wake_at()
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        if self.must_wait()? {
            return Ok(Flow::Wait);
        }
        self.inner.on_wake(cx)
    }

    fn before_barrier(&mut self, barrier: &Barrier, cx: &mut Cx<'_>) -> Result<Flow> {
        if self.must_wait()? {
            return Ok(Flow::Wait);
        }
        self.inner.before_barrier(barrier, cx)
    }

    fn snapshot_lists(&mut self) -> Result<Lists> {
        self.blow()?;
        let lists = self.inner.snapshot_lists()?;
        if let (Some(plant), Some(uid)) = (&self.blows.plant, &self.uid) {
            plant.snapshot(uid, &lists);
        }
        Ok(lists)
    }

    fn on_event(&mut self, event: &OperatorEvent, cx: &mut Cx<'_>) -> Result<()> {
        self.inner.on_event(event, cx)
    }

    fn on_end(&mut self, cx: &mut Cx<'_>) -> Result<Flow> {
        self.inner.on_end(cx)
    }
}

struct HurtSource {
    inner: Arc<dyn SourceFactory>,
    blows: Arc<Blows>,
}

impl SourceFactory for HurtSource {
    fn driver(&self) -> Result<Box<dyn SourceDriver>> {
        Ok(Box::new(HurtDriver {
            inner: self.inner.driver()?,
            blows: self.blows.clone(),
        }))
    }

    fn enumerator(&self, env: &Env) -> Result<Box<dyn SourceEnumerator>> {
        self.inner.enumerator(env)
    }
}

struct HurtDriver {
    inner: Box<dyn SourceDriver>,
    blows: Arc<Blows>,
}

impl SourceDriver for HurtDriver {
    fn open(&mut self, cx: &mut OpenCx<'_>) -> Result<()> {
        self.inner.open(cx)
    }

    fn poll(&mut self, max_rows: usize, cx: &mut Cx<'_>) -> Result<SourcePoll> {
        self.blows.strike()?;
        self.inner.poll(max_rows, cx)
    }

    fn on_event(&mut self, event: &OperatorEvent, cx: &mut Cx<'_>) -> Result<()> {
        self.inner.on_event(event, cx)
    }

    fn snapshot_lists(&mut self, checkpoint: CheckpointId) -> Result<Lists> {
        self.blows.strike()?;
        self.inner.snapshot_lists(checkpoint)
    }

    fn place(&self, row: Option<usize>) -> String {
        self.inner.place(row)
    }
}
