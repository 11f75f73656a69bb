//! `supctl bench`.

use core::time::Duration;
use std::time::Instant;

use supctl::client::{Client, EventType, FastCall};
use supctl::error::Result as ClientResult;
use supctl::pages::Pages;
use supctl::transport::Transport;

use super::{Failure, Result, Words, open};

/// Repeats an operation for a while and prints how often it could be done.
fn measure(name: &str, time: Duration, operation: &dyn Fn() -> ClientResult<()>) -> Result {
    const BATCH: u32 = 16;
    if let Err(error) = operation() {
        println!("{name:<44} not available: {error}");
        return Ok(());
    }
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < time {
        for _ in 0..BATCH {
            operation()?;
        }
        count += u64::from(BATCH);
    }
    let elapsed = start.elapsed().as_secs_f64();
    let (per_second, each) = (count as f64 / elapsed, elapsed * 1e9 / count as f64);
    println!("{name:<44} {per_second:>14.0} {each:>14.0}");
    Ok(())
}

fn services(client: &Client, own: &Pages, time: Duration, transport: &dyn Transport) -> Result {
    let single = EventType::Single;
    let event = client.event(single)?;
    measure("fast call without a VM (refused)", time, &|| {
        let _refused = client.fast(FastCall::Nop, 0);
        Ok(())
    })?;
    measure("GET_PAGING_MODE", time, &|| client.paging_mode().map(drop))?;
    measure("VT_CAPS", time, &|| client.vt_caps().map(drop))?;
    measure("COOKIE", time, &|| {
        supctl::client::handshake(client.device(), client.encoding(), 0x001a_0007, 0x001a_0000).map(drop)
    })?;
    measure("QUERY_FUNCS", time, &|| client.query_functions().map(drop))?;
    measure("SEM_OP2 signal and wait", time, &|| {
        event.signal()?;
        event.wait(Duration::ZERO)
    })?;
    measure("SEM_OP3 create, SEM_OP2 close", time, &|| {
        client.sem_close(single, client.sem_create(single)?).map(drop)
    })?;
    measure("GIP_MAP again", time, &|| client.gip_map().map(drop))?;
    for pages in [1, 16, 256] {
        measure(&format!("PAGE_ALLOC_EX and PAGE_FREE, {pages} pages"), time, &|| {
            client.page_free(client.page_alloc(pages, true)?.r3)
        })?;
    }
    measure("LOW_ALLOC and LOW_FREE, 16 pages", time, &|| client.low_free(client.low_alloc(16)?.r3))?;
    measure("CONT_ALLOC and CONT_FREE, 16 pages", time, &|| client.cont_free(client.cont_alloc(16)?.r3))?;
    measure("PAGE_LOCK and PAGE_UNLOCK, 16 pages", time, &|| {
        client.page_lock(own.address(), 16)?;
        client.page_unlock(own.address())
    })?;
    measure("LDR_OPEN and LDR_FREE, 4 KiB", time, &|| {
        client.ldr_free(client.ldr_open("supctl-bench", 0x2000, 0x1000, "")?.base)
    })?;
    measure("open, handshake and close", time, &|| {
        Client::open(transport, supctl::transport::Node::Unrestricted).map(drop)
    })?;
    let gip = client.gip()?;
    measure("time from the global info page", time, &|| {
        let _now = gip.now_ns(transport);
        Ok(())
    })
}

pub fn run(transport: &dyn Transport, mut words: Words) -> Result {
    let time = if words.flag("--short") { Duration::from_millis(50) } else { Duration::from_millis(500) };
    words.end()?;
    let client = open(transport)?;
    let own = Pages::new(16).ok_or_else(|| Failure::Failed("no memory".into()))?;
    println!("{:<44} {:>14} {:>14}", "operation", "per second", "ns each");
    services(&client, &own, time, transport)
}
