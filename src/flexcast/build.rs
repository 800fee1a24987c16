//! The shared library's name for the dynamic linker. Its exports are rustc's to limit:
//! only what is `no_mangle` leaves a cdylib.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libflexcast.so.0");
    println!("cargo:rerun-if-changed=build.rs");
}
