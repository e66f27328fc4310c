mod args; mod ask;
fn main() {}
