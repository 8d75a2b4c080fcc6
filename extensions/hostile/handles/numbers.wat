(module
  (import "hostile:trial/host@1.0.0" "[method]thing.size" (func $size (param i32) (result i32)))
  (import "hostile:trial/host@1.0.0" "[resource-drop]thing" (func $drop (param i32)))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (if (i32.and (local.get $step) (i32.const 2)) (then (call $drop (local.get $step))))
    (call $size (local.get $step))))
