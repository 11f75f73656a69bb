//! `supctl info`.

use supctl::client::Client;
use supctl::transport::{Node, Transport};
use supdrv_core::abi::ioctl::VtCaps;

use super::{Result, Words, open};

/// `major.minor` of an interface version.
fn version(word: u32) -> String {
    format!("{:#010x} ({:#x}.{})", word, word >> 16, word & 0xffff)
}

fn capabilities(client: &Client) -> String {
    match client.vt_caps() {
        Ok(caps) => {
            let names =
                [(VtCaps::VT_X, "VT-x"), (VtCaps::AMD_V, "AMD-V"), (VtCaps::NESTED_PAGING, "nested paging")];
            let have: Vec<_> =
                names.iter().filter(|(cap, _)| caps.contains(*cap)).map(|(_, name)| *name).collect();
            have.join(", ")
        }
        Err(error) => format!("none ({error})"),
    }
}

pub fn run(transport: &dyn Transport, mut words: Words) -> Result {
    let all_functions = words.flag("--functions");
    words.end()?;
    let client = open(transport)?;
    let session = client.session();
    println!("way to the driver    {}", transport.describe());
    println!("driver version       {}", version(session.driver_version));
    println!("session version      {}", version(session.session_version));
    println!(
        "cookies              driver {:#010x}, session {:#010x}",
        session.cookie, session.session_cookie
    );
    println!("paging mode          {}", client.paging_mode()?.name());
    println!("CPU capabilities     {}", capabilities(&client));
    println!("wait resolution      {} ns", client.sem_resolution_ns(supctl::client::EventType::Single)?);
    match client.gip() {
        Ok(gip) => {
            let cpus = gip.cpus().len();
            println!("global info page     {}, {cpus} CPU entries", gip.mode_name());
        }
        Err(error) => println!("global info page     none ({error})"),
    }
    let restricted = match Client::open(transport, Node::Restricted) {
        Ok(_) => "can be opened".to_owned(),
        Err(error) => error.to_string(),
    };
    println!("restricted device    {restricted}");
    if let Some(counters) = transport.counters() {
        println!(
            "in use               {} sessions, {} objects, {} memory references, {} images, {} factories, {} users of the page",
            counters.sessions,
            counters.objects,
            counters.memory_refs,
            counters.images,
            counters.factories,
            counters.gip_users
        );
    }
    let functions = client.query_functions()?;
    println!("functions            {}", functions.len());
    let shown = if all_functions { functions.len() } else { 0 };
    for export in functions.iter().take(shown) {
        println!("  {:#018x} {}", export.address, export.name);
    }
    Ok(())
}
