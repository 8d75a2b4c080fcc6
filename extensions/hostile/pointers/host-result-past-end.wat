(module
  (import "hostile:trial/host@1.0.0" "echo" (func $echo (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func $area (param $step i32) (result i32)
    (block $far (block $across (block $odd (block $good
      (br_table $good $far $across $odd (local.get $step)))
      (return (i32.const 512)))
      (return (i32.const 514)))
      (return (i32.const 65532)))
    (i32.const -8))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (call $echo (i32.const 64) (i32.const 9) (call $area (local.get $step)))
    (i32.load (i32.const 516))))
