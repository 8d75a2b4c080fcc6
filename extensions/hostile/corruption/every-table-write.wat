;; Each entry answers a digit.
(module
  (type $plain (func (result i32)))
  (table $table 4 4 funcref)
  (elem (table $table) (i32.const 0) func $one $one $one $one)
  (elem $more func $two $two)
  (func $one (type $plain) (i32.const 1))
  (func $two (type $plain) (i32.const 2))
  (func $digits (result i32)
    (i32.add
      (i32.add (i32.mul (call_indirect $table (type $plain) (i32.const 0)) (i32.const 1000))
        (i32.mul (call_indirect $table (type $plain) (i32.const 1)) (i32.const 100)))
      (i32.add (i32.mul (call_indirect $table (type $plain) (i32.const 2)) (i32.const 10))
        (call_indirect $table (type $plain) (i32.const 3)))))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (if (i32.eq (local.get $step) (i32.const 1)) (then (table.set $table (i32.const 0) (ref.func $two))))
    (if (i32.eq (local.get $step) (i32.const 2)) (then
      (table.set $table (i32.const 1) (ref.func $two)) (table.init $table $more (i32.const 2) (i32.const 0) (i32.const 2))
      (if (i32.ne (call $digits) (i32.const 2222)) (then (return (i32.const 0))))
      (table.copy $table $table (i32.const 1) (i32.const 0) (i32.const 3))
      (table.fill $table (i32.const 0) (ref.null func) (i32.const 4))
      unreachable))
    (call $digits)))
