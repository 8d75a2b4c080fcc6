(module
  (memory (export "memory") 1)
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (if (local.get $step) (then
      (if (i32.eq (local.get $step) (i32.const 1)) (then
        (i64.store (i32.const 65532) (i64.const -1))))))
    (i32.load (i32.const 65532))))
