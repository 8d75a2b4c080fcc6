(module
  (import "hostile:trial/host@1.0.0" "lend" (func $lend (result i32)))
  (import "hostile:trial/host@1.0.0" "take" (func $take (param i32)))
  (func (export "give") (param $who i32) (param $step i32) (result i32) (local $thing i32)
    (if (local.get $step) (then (return (local.get $step))))
    (call $take (local.tee $thing (call $lend)))
    (local.get $thing)))
