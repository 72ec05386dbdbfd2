define internal void @sum.tiles(ptr noalias readonly %in0, ptr noalias %out, i64 %first, i64 %last) noinline nounwind "prefer-vector-width"="512" {
entry:
  %a0.0 = alloca float
  store float 0x0000000000000000, ptr %a0.0
  br label %body0
body0:
  %r0 = phi i64 [ 0, %entry ], [ %next0, %latch0 ]
  %v1 = getelementptr float, ptr %in0, i64 %r0
  %v2 = load float, ptr %v1, align 4
  %v3 = load float, ptr %a0.0
  %v4 = fadd float %v3, %v2
  store float %v4, ptr %a0.0
  br label %latch0
latch0:
  %next0 = add nuw nsw i64 %r0, 1
  %v5 = icmp slt i64 %next0, 64
  br i1 %v5, label %body0, label %exit0
exit0:
  %v6 = load float, ptr %a0.0
  %v7 = getelementptr float, ptr %out, i64 0
  store float %v6, ptr %v7, align 4
  ret void
}
define void @sum(ptr %buffers, i64 %first, i64 %last) nounwind "prefer-vector-width"="512" {
  %p1 = getelementptr ptr, ptr %buffers, i64 1
  %b1 = load ptr, ptr %p1
  %p0 = getelementptr ptr, ptr %buffers, i64 0
  %b0 = load ptr, ptr %p0
  call void @sum.tiles(ptr %b1, ptr %b0, i64 %first, i64 %last)
  ret void
}
