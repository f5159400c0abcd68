//! A real NATS server, and nodes that decide by it: it keeps what they rely on, and they outlive what happens to it.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use supernode_cluster::{
    Act, Answer, Entry, Home, Key, Life, Node, NodeNumber, Own, RoomKey, Terms, Value, Whereabouts,
};
use supernode_cluster_nats::{Bucket, BucketError, Place, RecordKey, drive};
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};

const ROOM: RoomKey = RoomKey([5; 16]);
/// For whatever is waited for: many times of what it takes on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a port of its own.
struct Server {
    home: TempDir,
    port: u16,
    child: Child,
}

impl Server {
    fn start() -> Self {
        let home = TempDir::new().expect("a directory");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let child = Self::run(home.path(), port);
        Self { home, port, child }
    }

    fn run(home: &Path, port: u16) -> Child {
        let port = port.to_string();
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"]).arg(home);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("nats-server (Debian: apt-get install nats-server)")
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    fn start_again(&mut self) {
        self.child = Self::run(self.home.path(), self.port);
    }

    async fn bucket(&self) -> Bucket {
        self.bucket_with([1; 32]).await
    }

    async fn bucket_with(&self, secret: [u8; 32]) -> Bucket {
        let options = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .reconnect_delay_callback(|_| Duration::from_millis(50));
        let client = options.connect(format!("127.0.0.1:{}", self.port)).await.expect("it connects some time");
        let place = Place { cluster: "test".to_owned(), replicas: 1, key: RecordKey(secret) };
        Bucket::new(client, &place, Duration::from_secs(1)).expect("a name")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node and what drives it.
struct Running {
    node: Arc<Mutex<Node>>,
    begun: Instant,
    driver: JoinHandle<()>,
}

impl Running {
    async fn start(server: &Server, number: u16) -> Self {
        // A tenth of what people get: nothing here is judged by how long it took.
        let terms = Terms {
            hold: Duration::from_millis(1600),
            wait: Duration::from_millis(2000),
            renew_every: Duration::from_millis(300),
            patience: Duration::from_millis(500),
            pace: Duration::from_millis(50),
        };
        let at = Whereabouts { address: ([127, 0, 0, 1], 4433).into(), pin: [number as u8; 32] };
        let own = Own { number: NodeNumber(number), at };
        let mut node = Node::new(terms, own, Life(rand::random()), None);
        node.want(ROOM);
        let (node, bucket) = (Arc::new(Mutex::new(node)), server.bucket().await);
        let driven = Arc::clone(&node);
        let begun = Instant::now();
        let driver = tokio::spawn(async move { drive(&bucket, &driven, begun, &Notify::new(), || ()).await });
        Self { node, begun, driver }
    }

    fn home(&self) -> Home {
        self.node.lock().expect("not poisoned").home(ROOM, self.begun.elapsed())
    }

    fn number(&self) -> Option<NodeNumber> {
        self.node.lock().expect("not poisoned").held(self.begun.elapsed()).map(|(number, _)| number)
    }
}

/// Waits until exactly one of the nodes is the room's home and all others know it, and says which. Never may there be two.
async fn the_home(nodes: &[Running], from: Instant) -> usize {
    loop {
        let homes: Vec<Home> = nodes.iter().map(Running::home).collect();
        let here: Vec<usize> = (0..nodes.len()).filter(|at| matches!(homes[*at], Home::Here(_))).collect();
        assert!(here.len() <= 1, "two homes: {homes:?}");
        if let [here] = here[..] {
            let number = nodes[here].number();
            let agree = |at: usize| at == here || matches!(homes[at], Home::There(node, _) if Some(node) == number);
            if number.is_some() && (0..nodes.len()).all(agree) {
                return here;
            }
        }
        assert!(from.elapsed() < PATIENCE, "no home that all agree on: {homes:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until there is an answer.
async fn answer(bucket: &Bucket, act: Act) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = bucket.ask(act).await;
        if answer != Answer::Unknown {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "no answer to {act:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_stream_takes_a_write_only_if_the_last_one_is_the_expected() {
    let server = Server::start();
    let bucket = server.bucket().await;
    let key = Key::Room { epoch: 1, room: ROOM };
    let home = |node| Value::Home { node: NodeNumber(node), life: Life(9) };
    let write = |expected, value| Act::Write { key, expected, value };

    assert_eq!(answer(&bucket, Act::Read(key)).await, Answer::Found(None));
    let Answer::Written(first) = answer(&bucket, write(0, home(1))).await else { panic!("the first is taken") };
    assert_eq!(answer(&bucket, write(0, home(2))).await, Answer::Conflict);
    let Answer::Written(second) = answer(&bucket, write(first, home(2))).await else { panic!("the next is taken") };
    assert!(second > first);
    assert_eq!(answer(&bucket, write(first, home(3))).await, Answer::Conflict);
    let entry = Entry { key, revision: second, value: home(2) };
    assert_eq!(answer(&bucket, Act::Read(key)).await, Answer::Found(Some(entry)));
    // The record of a room that nobody is in goes, and the next one of it is the first again.
    let Answer::Written(third) = answer(&bucket, write(second, Value::Empty)).await else { panic!("it is taken") };
    assert_eq!(answer(&bucket, Act::Read(key)).await, Answer::Found(None));
    let Answer::Written(fourth) = answer(&bucket, write(0, home(3))).await else { panic!("it is taken") };
    assert!(fourth > third);
}

#[tokio::test]
async fn whoever_has_another_secret_reads_and_overwrites_nothing_and_is_told() {
    let server = Server::start();
    let (bucket, stranger) = (server.bucket().await, server.bucket_with([2; 32]).await);
    let write = |expected, number| Act::Write { key: Key::Epoch, expected, value: Value::Epoch(number) };
    let Answer::Written(first) = answer(&bucket, write(0, 7)).await else { panic!("the first is taken") };
    let entry = Entry { key: Key::Epoch, revision: first, value: Value::Epoch(7) };
    assert_eq!(answer(&bucket, Act::Read(Key::Epoch)).await, Answer::Found(Some(entry)));
    assert!(bucket.look().await.is_ok());
    assert_eq!(stranger.ask(Act::Read(Key::Epoch)).await, Answer::Unknown, "it is not for this one to read");
    assert!(matches!(stranger.look().await, Err(BucketError::Secret { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_agree_on_homes_whatever_happens_to_them_and_to_their_server() {
    let mut server = Server::start();
    let mut nodes = Vec::new();
    for number in 1..=3 {
        nodes.push(Running::start(&server, number).await);
    }
    let home = the_home(&nodes, Instant::now()).await;
    println!("the first home is {home}");

    // The home's process dies.
    let dead = nodes.remove(home);
    dead.driver.abort();
    let begun = Instant::now();
    let home = the_home(&nodes, begun).await;
    println!("after the home's death: {home}, in {:?}", begun.elapsed());

    // The server is killed, for longer than a life is held: nobody answers as the home meanwhile.
    server.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(nodes.iter().all(|node| !matches!(node.home(), Home::Here(_)) && node.number().is_none()));
    server.start_again();
    let begun = Instant::now();
    the_home(&nodes, begun).await;
    println!("after the server's restart: in {:?}", begun.elapsed());

    // It comes back with an empty disk.
    let epoch = |node: &Running| node.node.lock().expect("not poisoned").epoch();
    let before = epoch(&nodes[0]);
    server.kill();
    fs::remove_dir_all(server.home.path().join("jetstream")).expect("it was there");
    server.start_again();
    let begun = Instant::now();
    while nodes.iter().any(|node| epoch(node) == before) {
        let homes = nodes.iter().filter(|node| matches!(node.home(), Home::Here(_))).count();
        assert!(homes <= 1 && begun.elapsed() < PATIENCE, "{homes} homes, no new epoch");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    the_home(&nodes, begun).await;
    println!("after a loss of everything: in {:?}", begun.elapsed());
}
