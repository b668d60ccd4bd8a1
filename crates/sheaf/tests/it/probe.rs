//! probe
use super::*;
fn cpu() -> f64 { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect(); (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0 }
#[test]
#[allow(clippy::disallowed_methods, reason="probe")]
fn probe() {
    let mut world = World::new();
    let (one, two_) = (world.device("a"), world.device("b"));
    let (a, b) = two(&one, &two_);
    a.go_online().unwrap();
    b.go_online().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    while two_.events().try_next().is_some() {}
    let mut lat = vec![];
    for i in 0..200 {
        let t = std::time::Instant::now();
        exec(&a, &format!("UPDATE todo SET done={i}+100 WHERE id=1"));
        expect(&two_, "changed", |e| matches!(e, Event::Changed { .. }));
        lat.push(t.elapsed().as_micros());
    }
    lat.sort();
    println!("latency us p50 {} p99 {}", lat[100], lat[197]);
    let c = cpu(); std::thread::sleep(Duration::from_secs(4)); println!("idle online cpu {}", cpu() - c);
    world.stop_node();
    let c = cpu(); std::thread::sleep(Duration::from_secs(4)); println!("node away cpu {}", cpu() - c);
    a.go_offline(); b.go_offline();
    let c = cpu(); std::thread::sleep(Duration::from_secs(3)); println!("offline cpu {}", cpu() - c);
    let t = std::time::Instant::now(); drop((a, b, one, two_)); println!("drop {:?}", t.elapsed());
}
