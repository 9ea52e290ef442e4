//! Both families of one question.

mod faults;

use super::*;

fn v4() -> Found {
    (vec![IpAddr::from([192, 0, 2, 1])], Duration::from_secs(60))
}

fn v6() -> Found {
    (vec![IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])], Duration::from_secs(30))
}

#[tokio::test(start_paused = true)]
async fn a_failed_aaaa_is_not_fatal() {
    let found = both(async { Ok(v4()) }, async { Err(NetError::Timeout) }).await;
    assert_eq!(found.unwrap(), v4());
}

#[tokio::test(start_paused = true)]
async fn a_slow_aaaa_is_not_waited_for() {
    let begin = tokio::time::Instant::now();
    let slow = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(v6())
    };
    assert_eq!(both(async { Ok(v4()) }, slow).await.unwrap(), v4());
    assert!(begin.elapsed() < Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn ipv4_stands_first_and_the_shorter_lifetime_counts() {
    let late = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(v4())
    };
    let (addresses, lifetime) = both(late, async { Ok(v6()) }).await.unwrap();
    assert_eq!(addresses, [v4().0, v6().0].concat());
    assert_eq!(lifetime, Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn only_ipv6_is_enough() {
    let found = both(async { Err(NetError::Timeout) }, async { Ok(v6()) }).await;
    assert_eq!(found.unwrap(), v6());
}

#[tokio::test(start_paused = true)]
async fn two_empty_answers_are_an_error() {
    let empty = || async { Ok((Vec::new(), LONGEST)) };
    assert!(both(empty(), empty()).await.is_err());
}
