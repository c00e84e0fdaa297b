use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::Instant as Clock,
};

use super::{super::heard::Heard, *};

const PREFACE: usize = 24;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;

/// A node that speaks HTTP/2 as the test says (RFC 9113, section 4.1).
struct Node(DuplexStream);

impl Node {
    async fn say(&mut self, kind: u8, flags: u8, content: &[u8]) {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags, 0, 0, 0, 0], content].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame's kind, flags and content.
    async fn hear(&mut self) -> (u8, u8, Vec<u8>) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut content = vec![0; length as usize];
        self.0.read_exact(&mut content).await.unwrap();
        (head[3], head[4], content)
    }

    /// What a PING asks for.
    async fn asked(&mut self) -> Vec<u8> {
        loop {
            if let (PING, 0, content) = self.hear().await {
                return content;
            }
        }
    }
}

async fn leg() -> (Leg, Node, Ends) {
    let (near, far) = duplex(1 << 16);
    let talk = Arc::new(Talk::default());
    let near = Heard::new(near, Arc::clone(&talk));
    let (send, connection) = h2::client::handshake(near).await.unwrap();
    let ends = Ends {
        closed: CancellationToken::new(),
        broke: Arc::default(),
    };
    let leg = Leg::start(NodeId("alpha".into()), None, None, send, connection, talk, &ends).unwrap();
    let mut node = Node(far);
    let mut preface = [0; PREFACE];
    node.0.read_exact(&mut preface).await.unwrap();
    node.say(SETTINGS, 0, &[]).await;
    (leg, node, ends)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_nothing_is_silent_and_one_that_answers_late_is_measured() {
    let (leg, mut node, _ends) = leg().await;
    let began = Clock::now();
    assert_eq!(leg.ping().await, None);
    // its settings came in the first of two turns
    assert!(began.elapsed() >= PONG && began.elapsed() < PONG * 3);
    // the answer to that one comes at last: the next one is not taken for it
    let late = node.asked().await;
    let answers = async {
        node.say(PING, ACK, &late).await;
        let asked = node.asked().await;
        node.say(PING, ACK, &asked).await;
    };
    let (took, ()) = tokio::join!(leg.ping(), answers);
    assert!(took.is_some() && leg.round_trip().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_busy_with_other_things_is_not_silent() {
    let (leg, mut node, _ends) = leg().await;
    let busy = async {
        let asked = node.asked().await;
        for _ in 0..8 {
            tokio::time::sleep(PONG / 2).await;
            node.say(WINDOW_UPDATE, 0, &[0, 0, 0, 1]).await;
        }
        node.say(PING, ACK, &asked).await;
    };
    let (took, ()) = tokio::join!(leg.ping(), busy);
    assert!(took.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_to_stop_is_known_before_anything_is_asked_of_it() {
    let (leg, mut node, _ends) = leg().await;
    assert_eq!(leg.refuses(), None);
    node.say(GOAWAY, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(leg.refuses(), Some(Seen::Leaving));
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_word_is_a_cut_and_one_with_an_error_is_the_nodes_own() {
    let (quiet, node, ends) = leg().await;
    let (answer, _to) = quiet.request(Request::new(())).await.unwrap();
    drop(node);
    ends.broke.notified().await;
    assert!(answer.await.is_err());
    assert_eq!(quiet.ended(), Some(Seen::Cut));
    let (leg, mut node, ends) = leg().await;
    let enhance_your_calm = 11;
    node.say(GOAWAY, 0, &[0, 0, 0, 0, 0, 0, 0, enhance_your_calm])
        .await;
    ends.broke.notified().await;
    assert_eq!(leg.ended(), Some(Seen::Violated));
}
