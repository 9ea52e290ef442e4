//! A name server with every fault, and what whoever asks for an address notices of it.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering},
};

use hickory_resolver::proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
    time::Instant,
};

use super::super::*;
use crate::{clock::Hand, shutdown::Tasks};

/// What the name server does with a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// As many addresses of each family as it says, good for so many seconds.
    Answers { v4: u16, v6: u16, seconds: u32 },
    /// Refuses, with this code.
    Says(ResponseCode),
    /// Answers ten seconds later, when nobody listens any more.
    Dawdles,
}

use Does::{Answers, Dawdles, Says};

const GOOD: Does = Answers { v4: 1, v6: 0, seconds: 30 };
const EMPTY: Does = Answers { v4: 0, v6: 0, seconds: 30 };

/// The name server of one test, and a resolver that asks it.
struct Stage {
    server: Arc<Server>,
    resolver: Arc<Resolver>,
    hand: &'static Hand,
    tasks: Tasks,
}

struct Server {
    does: Mutex<Does>,
    questions: AtomicUsize,
    names: Mutex<HashSet<String>>,
}

impl Server {
    fn answer(&self, question: &[u8]) -> (Does, Message) {
        let question = Message::from_vec(question).unwrap();
        let asked = question.queries[0].clone();
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.names.lock().unwrap().insert(asked.name().to_string());
        let does = *self.does.lock().unwrap();
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        let (v4, v6, seconds) = match does {
            Answers { v4, v6, seconds } => (v4, v6, seconds),
            Says(code) => {
                answer.metadata.response_code = code;
                (0, 0, 0)
            }
            Dawdles => (1, 0, 30),
        };
        let count = if asked.query_type() == RecordType::A { v4 } else { v6 };
        for number in 1..=count {
            let [high, low] = number.to_be_bytes();
            let data = match asked.query_type() {
                RecordType::A => RData::A(Ipv4Addr::new(198, 18, high, low).into()),
                _ => RData::AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).into()),
            };
            answer.add_answer(Record::from_rdata(asked.name().clone(), seconds, data));
        }
        answer.add_query(asked);
        (does, answer)
    }

    async fn udp(self: Arc<Self>, socket: UdpSocket, tasks: Tasks) {
        let (socket, mut question) = (Arc::new(socket), [0; 512]);
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            let (does, mut answer) = self.answer(&question[..length]);
            if answer.to_vec().unwrap().len() > 512 {
                answer.answers.clear();
                answer.metadata.truncation = true;
            }
            let (answer, socket) = (answer.to_vec().unwrap(), socket.clone());
            tasks.spawn(async move {
                if does == Dawdles {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                let _ = socket.send_to(&answer, from).await;
            });
        }
    }

    /// What is too long for a datagram is asked again here.
    async fn tcp(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let server = self.clone();
            tasks.spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut question = vec![0; length.into()];
                    stream.read_exact(&mut question).await.unwrap();
                    let answer = server.answer(&question).1.to_vec().unwrap();
                    stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                    stream.write_all(&answer).await.unwrap();
                }
            });
        }
    }
}

impl Stage {
    async fn new() -> Self {
        Self::completing(&[]).await
    }

    /// With search domains.
    async fn completing(search: &[&str]) -> Self {
        let tasks = Tasks::new();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let server =
            Arc::new(Server { does: Mutex::new(GOOD), questions: AtomicUsize::new(0), names: Mutex::default() });
        tasks.spawn(server.clone().udp(udp, tasks.clone()));
        tasks.spawn(server.clone().tcp(tcp, tasks.clone()));
        let (clock, hand) = Clock::by_hand();
        let resolver = Resolver::completing(address, search, clock).keeping(vec![Host::parse(KEPT).unwrap()]);
        let resolver = Arc::new(resolver);
        Self { server, resolver, hand, tasks }
    }

    fn does(&self, does: Does) {
        *self.server.does.lock().unwrap() = does;
    }

    fn passes(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }

    fn questions(&self) -> usize {
        self.server.questions.load(Ordering::Relaxed)
    }

    fn names(&self) -> usize {
        self.server.names.lock().unwrap().len()
    }

    async fn ask(&self, name: &str, completion: Completion) -> Result<Arc<[IpAddr]>, DnsError> {
        self.resolver.addresses(&Host::parse(name).unwrap(), completion).await
    }

    /// The addresses of a host of Google's.
    async fn addresses(&self) -> Result<Arc<[IpAddr]>, DnsError> {
        self.ask("storage.googleapis.com", Completion::Absolute).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.tasks.end();
    }
}

/// A name that a stage's resolver never forgets.
const KEPT: &str = "oauth2.googleapis.com";

/// How long whoever opens a connection waits for all of it.
const DIAL: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_last_good_answer_serves_for_ten_minutes_whatever_dns_does() {
    let refusals = [ResponseCode::NXDomain, ResponseCode::ServFail, ResponseCode::Refused].map(Says);
    for fault in refusals.into_iter().chain([EMPTY, Dawdles]) {
        let stage = Stage::new().await;
        let good = stage.addresses().await.unwrap();
        stage.does(fault);
        stage.passes(31);
        for passed in [0, 199, 398, 597] {
            let begin = Instant::now();
            assert_eq!(stage.addresses().await.unwrap(), good, "{fault:?} for {passed} s");
            assert!(begin.elapsed() < Duration::from_secs(3), "{fault:?}: {:?}", begin.elapsed());
            stage.passes(199);
        }
        let ended = tokio::time::timeout(DIAL, stage.addresses()).await.expect("an end of the look-up");
        assert!(ended.is_err(), "{fault:?}: an answer older than ten minutes");
        stage.does(Answers { v4: 2, v6: 0, seconds: 30 });
        assert_eq!(stage.addresses().await.unwrap().len(), 2, "{fault:?}: and when it is over");
    }
}

#[tokio::test]
async fn a_name_that_search_domains_complete_keeps_its_answer_too() {
    let stage = Stage::completing(&["ns.svc.test", "svc.test", "one.test", "two.test"]).await;
    let good = stage.ask("broker.example", Completion::Search).await.unwrap();
    stage.does(Dawdles);
    stage.passes(31);
    // Four domains that each take their time: the whole question takes longer than anybody waits for a connection.
    let kept = tokio::time::timeout(DIAL, stage.ask("broker.example", Completion::Search)).await;
    assert_eq!(kept.expect("the kept answer in time").unwrap(), good);
}

#[tokio::test]
async fn in_an_outage_a_name_is_asked_for_again_every_few_seconds_and_not_by_everybody() {
    let stage = Stage::new().await;
    stage.addresses().await.unwrap();
    stage.does(Says(ResponseCode::ServFail));
    stage.passes(31);
    stage.addresses().await.unwrap();
    let first = stage.questions();
    for _ in 0..100 {
        stage.addresses().await.unwrap();
    }
    assert_eq!(stage.questions(), first, "it failed a moment ago");
    stage.does(Answers { v4: 3, v6: 0, seconds: 30 });
    stage.passes(5);
    assert_eq!(stage.addresses().await.unwrap().len(), 3);
}

#[tokio::test]
async fn however_many_wait_for_a_name_it_takes_the_place_of_one() {
    let stage = Stage::new().await;
    stage.does(Dawdles);
    let mut asking = JoinSet::new();
    for _ in 0..500 {
        let resolver = stage.resolver.clone();
        asking.spawn(async move {
            resolver.addresses(&Host::parse("storage.googleapis.com").unwrap(), Completion::Absolute).await
        });
    }
    while stage.questions() < 2 {
        tokio::task::yield_now().await;
    }
    stage.does(GOOD);
    let begin = Instant::now();
    assert!(stage.ask("pubsub.googleapis.com", Completion::Absolute).await.is_ok());
    assert!(begin.elapsed() < Duration::from_secs(1), "no place was left: {:?}", begin.elapsed());
    // The question is repeated, and all hear the answer.
    while let Some(answer) = asking.join_next().await {
        assert!(answer.unwrap().is_ok());
    }
    assert!(stage.questions() < 20, "{} questions for two names", stage.questions());
}

#[tokio::test]
async fn names_are_looked_up_a_few_at_a_time_and_strangers_hold_up_none_of_googles() {
    let stage = Stage::new().await;
    stage.does(Dawdles);
    let mut asking = JoinSet::new();
    for number in 0..2000 {
        let resolver = stage.resolver.clone();
        asking.spawn(async move {
            let name = Host::parse(&format!("host-{number}.example")).unwrap();
            tokio::time::timeout(DIAL, resolver.addresses(&name, Completion::Search)).await
        });
    }
    // Each takes two seconds at least, so what is asked in the first one is what is in flight at once.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        tokio::task::yield_now().await;
    }
    let at_once = stage.names();
    assert!((16..=MOST_IN_FLIGHT).contains(&at_once), "{at_once} names at once");
    stage.does(GOOD);
    let begin = Instant::now();
    assert!(stage.addresses().await.is_ok());
    assert!(begin.elapsed() < Duration::from_secs(1), "it waited for strangers: {:?}", begin.elapsed());
}

#[tokio::test]
async fn names_that_somebody_makes_up_take_no_good_answer_away() {
    let stage = Stage::new().await;
    let good = stage.addresses().await.unwrap();
    for number in 0..1100 {
        stage.ask(&format!("host-{number}.example"), Completion::Search).await.unwrap();
    }
    stage.does(Says(ResponseCode::ServFail));
    stage.passes(31);
    assert_eq!(stage.addresses().await.expect("the last good answer"), good);
    assert!(stage.ask("host-1099.example", Completion::Search).await.is_ok(), "nor that of a stranger of late");
}

/// Every bucket has a name of its own below a zone of Google's, so that those may be made up too.
#[tokio::test]
async fn no_number_of_googles_names_takes_the_answer_about_the_token_endpoint_away() {
    let stage = Stage::new().await;
    let endpoint = || stage.ask(KEPT, Completion::Absolute);
    let good = endpoint().await.unwrap();
    for number in 0..1100 {
        stage.ask(&format!("b{number}.storage.googleapis.com"), Completion::Absolute).await.unwrap();
    }
    stage.does(Says(ResponseCode::ServFail));
    stage.passes(31);
    assert_eq!(endpoint().await.expect("the last good answer"), good);
    assert!(stage.ask("b1099.storage.googleapis.com", Completion::Absolute).await.is_ok());
}

#[tokio::test]
async fn an_answer_without_a_lifetime_serves_for_five_seconds() {
    let stage = Stage::new().await;
    stage.does(Answers { v4: 1, v6: 1, seconds: 0 });
    for _ in 0..50 {
        stage.addresses().await.unwrap();
    }
    assert_eq!(stage.questions(), 2, "one question for each family");
    stage.passes(5);
    stage.addresses().await.unwrap();
    assert_eq!(stage.questions(), 4);
}

#[tokio::test]
async fn of_five_hundred_addresses_a_bounded_number_is_kept() {
    let stage = Stage::new().await;
    stage.does(Answers { v4: 500, v6: 500, seconds: 30 });
    assert_eq!(stage.addresses().await.unwrap().len(), 2 * MOST_RECORDS);
}

#[tokio::test]
async fn a_name_that_changes_its_family_is_followed() {
    let stage = Stage::new().await;
    for round in 0..4_u16 {
        stage.does(Answers { v4: round % 2, v6: 1 - round % 2, seconds: 30 });
        let found = stage.addresses().await.unwrap();
        assert_eq!((found.len(), found[0].is_ipv4()), (1, round % 2 == 1), "{found:?}");
        stage.passes(31);
    }
}
