(module
  (memory (export "memory") 16)
  (func $other (param $step i32) (result i32) (return_call $one (local.get $step)))
  (func $one (param $step i32) (result i32) (return_call $other (local.get $step)))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (if (i32.eq (local.get $step) (i32.const 1)) (then
      (loop $again (memory.fill (i32.const 0) (i32.const 7) (i32.const 1048576)) (br $again))))
    (if (i32.eq (local.get $step) (i32.const 2)) (then (return_call $one (local.get $step))))
    (if (i32.eq (local.get $step) (i32.const 3)) (then (loop $again (br $again))))
    (i32.load (i32.const 65532))))
