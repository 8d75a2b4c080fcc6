(module
  (memory (export "memory") 1)
  (data $ones "\ff\ff\ff\ff\ff\ff\ff\ff")
  (data (i32.const 16) "\ff\ff\ff\ff\ff\ff\ff\ff")
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (block $done (block $init (block $fill (block $copy
      (br_table $done $copy $fill $init $done (local.get $step)))
      (memory.copy (i32.const 65532) (i32.const 16) (i32.const 8)) (br $done))
      (memory.fill (i32.const 65532) (i32.const 255) (i32.const 8)) (br $done))
      (memory.init $ones (i32.const 65532) (i32.const 0) (i32.const 8)))
    (i32.load (i32.const 65532))))
