//! Refuses a build whose SQLite would lack the pre-update hook, before the linker does so in words
//! that nobody understands. See docs/adr/0003.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBSQLITE3_FLAGS");
    println!("cargo:rerun-if-changed=build.rs");
    // The SQLite for wasm32 has the hook compiled in.
    let wasm = std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32");
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    if !wasm && !flags.contains("SQLITE_ENABLE_PREUPDATE_HOOK") {
        println!(
            "cargo::error=Sheaf captures changes with SQLite's pre-update hook, which the bundled \
             SQLite has only when it is built with it: set \
             LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_PREUPDATE_HOOK in the environment, or in the [env] \
             table of your .cargo/config.toml, as Sheaf's own repository does (run cargo inside it)"
        );
    }
}
