//! A worker's tasks, timers and clocks. There is one thread, and tasks take turns on it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use supernode_session::Moment;
use tokio::sync::{Notify, oneshot};
use wasm_bindgen::prelude::{Closure, wasm_bindgen};
use wasm_bindgen_futures::spawn_local;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(call: &Closure<dyn FnMut()>, ms: f64) -> f64;
    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(timer: f64);

    type Performance;
    #[wasm_bindgen(thread_local_v2, js_name = performance)]
    static PERFORMANCE: Performance;
    #[wasm_bindgen(method)]
    fn now(this: &Performance) -> f64;

    type Date;
    #[wasm_bindgen(static_method_of = Date, js_name = now)]
    fn now_of_day() -> f64;
}

/// Now, for what has no clock of its own.
pub(crate) fn moment() -> Moment {
    Moment::at(of_ms(PERFORMANCE.with(Performance::now)))
}

/// The time of day: since 1970.
pub(crate) fn unix() -> Duration {
    of_ms(Date::now_of_day())
}

fn of_ms(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}

/// A task that runs by itself, and goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(Arc<Notify>);

impl Task {
    /// It goes no further.
    pub(crate) fn abort(&self) {
        self.0.notify_one();
    }
}

/// Lets it run by itself.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) -> Task {
    let aborted = Arc::new(Notify::new());
    let abort = aborted.clone();
    spawn_local(async move {
        tokio::select! {
            biased;
            () = abort.notified() => {}
            () = task => {}
        }
    });
    Task(aborted)
}

/// Whether tasks run here: a worker's do until it ends.
pub(crate) fn is_running() -> bool {
    true
}

/// Waits for what goes on even if nobody waits for it any more.
pub(crate) async fn apart<T: Send + 'static>(task: impl Future<Output = T> + 'static) -> T {
    let (tell, told) = oneshot::channel();
    // Nobody may wait for it any more.
    spawn_local(async move { drop(tell.send(task.await)) });
    match told.await {
        Ok(done) => done,
        // It is dropped with the worker only.
        Err(_) => std::future::pending().await,
    }
}

/// Does work that takes long: there is no other thread to do it on. What media needs is in the page's other threads.
pub(crate) fn long<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::future::Ready<T> {
    std::future::ready(work())
}

/// It took longer than it may.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Waits for it, at most so long.
pub(crate) async fn timeout<T>(at_most: Duration, doing: impl Future<Output = T>) -> Result<T, Elapsed> {
    tokio::select! {
        biased;
        done = doing => Ok(done),
        () = sleep(at_most) => Err(Elapsed),
    }
}

/// Waits so long.
pub(crate) fn sleep(wait: Duration) -> Sleep {
    sleep_until(moment() + wait)
}

/// Waits until a moment.
pub(crate) fn sleep_until(at: Moment) -> Sleep {
    let number = TIMERS.with_borrow_mut(|timers| {
        timers.numbers += 1;
        timers.numbers
    });
    Sleep { place: (at.since_beginning(), number) }
}

/// Moments that come again and again, the first at once.
#[derive(Debug)]
pub(crate) struct Ticks {
    apart: Duration,
    next: Moment,
}

impl Ticks {
    /// So far apart. After a standstill of this machine, what came meanwhile is handled before the next one.
    pub(crate) fn every(apart: Duration) -> Self {
        Self { apart, next: moment() }
    }

    /// Waits for the next.
    pub(crate) async fn next(&mut self) {
        sleep_until(self.next).await;
        self.next = moment() + self.apart;
    }
}

/// Who waits for which moment, by moment and number, and the browser's timer for the first of them.
#[derive(Default)]
struct Timers {
    numbers: u64,
    waiting: BTreeMap<Place, Waker>,
    /// The browser's timer, and for which moment it is.
    set: Option<(f64, Duration)>,
    fire: Option<Closure<dyn FnMut()>>,
}

type Place = (Duration, u64);

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::default();
}

/// A wait that ends by itself.
pub(crate) struct Sleep {
    place: Place,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if moment().since_beginning() >= self.place.0 {
            return Poll::Ready(());
        }
        TIMERS.with_borrow_mut(|timers| {
            timers.waiting.insert(self.place, cx.waker().clone());
            timers.set_for_first();
        });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Once the thread ends there are no timers any more.
        let _ = TIMERS.try_with(|timers| timers.borrow_mut().waiting.remove(&self.place));
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep(..)")
    }
}

impl Timers {
    /// Sees to it that the browser's timer is for whoever is first, or earlier.
    fn set_for_first(&mut self) {
        let Some(((first, _), _)) = self.waiting.first_key_value() else { return };
        if let Some((timer, at)) = self.set {
            if at <= *first {
                return;
            }
            clear_timeout(timer);
        }
        // A browser counts in whole milliseconds, and would wake us one too early.
        let wait = first.saturating_sub(moment().since_beginning());
        let ms = (wait.as_secs_f64() * 1e3).ceil().min(WAIT_MS_MAX);
        let fire = self.fire.get_or_insert_with(|| Closure::new(fire));
        self.set = Some((set_timeout(fire, ms), *first));
    }
}

/// The longest wait of a browser's timer. Unit: ms. Whoever waits longer is looked at again then.
const WAIT_MS_MAX: f64 = 3_600_000.0;

/// The browser's timer has come.
fn fire() {
    let due = TIMERS.with_borrow_mut(|timers| {
        timers.set = None;
        let now = moment().since_beginning();
        let later = timers.waiting.split_off(&(now, u64::MAX));
        std::mem::replace(&mut timers.waiting, later)
    });
    due.into_values().for_each(Waker::wake);
    TIMERS.with_borrow_mut(Timers::set_for_first);
}
